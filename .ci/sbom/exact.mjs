// Keeps of a generated SBOM exactly the crates that the program is built from, and fails when one of them is missing:
// node exact.mjs <sbom> <list of name@version, one a line> <root of the workspace>
//
// The generator also lists optional crates that no enabled feature pulls in, such as drivers of other databases.
import { readFileSync } from 'node:fs';

const [bomFile, listFile, root] = process.argv.slice(2);
const used = new Set(readFileSync(listFile, 'utf8').trim().split('\n'));
// Where the workspace lies on this machine is nobody's business.
const bom = JSON.parse(readFileSync(bomFile, 'utf8').replaceAll(`file://${root}`, 'file://.'));

const crate = (component) => `${component.name}@${component.version}`;
const program = bom.metadata.component;
bom.components = bom.components.filter((component) => used.has(crate(component)));
const kept = new Set([program, ...bom.components].map((component) => component['bom-ref']));
bom.dependencies = bom.dependencies
  .filter(({ ref }) => kept.has(ref))
  .map(({ ref, dependsOn }) => ({ ref, dependsOn: (dependsOn ?? []).filter((other) => kept.has(other)) }));

const named = new Set([program, ...bom.components].map(crate));
const missing = [...used].filter((name) => !named.has(name));
if (missing.length > 0) {
  console.error(`sbom: not named: ${missing.join(', ')}`);
  process.exit(1);
}
console.log(JSON.stringify(bom, null, 2));
