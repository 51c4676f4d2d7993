// Checks the contracts in a folder against the official meta-schemas of AsyncAPI 3.0 and OpenAPI 3.1.
// Each check must also refuse a broken copy, so that a passing document means something.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import specs from '@asyncapi/specs';
import { Validator } from '@seriousme/openapi-schema-validator';
import Ajv from 'ajv';
import formats from 'ajv-formats';
import { parse } from 'yaml';

// The bundle brings its own copy of JSON Schema's meta-schema.
const ajv = new Ajv({ strict: false, meta: false, validateSchema: false });
formats(ajv);
const validAsyncapi = ajv.compile(specs.schemas['3.0.0']);

async function asyncapi(document) {
  validAsyncapi(document);
  return validAsyncapi.errors ?? [];
}

async function openapi(document) {
  const { valid, errors } = await new Validator().validate(document);
  if (valid) return [];
  return Array.isArray(errors) ? errors : [{ message: String(errors) }];
}

const CONTRACTS = [
  ['asyncapi.yaml', asyncapi, (broken) => { broken.operations.takeChunk.action = 'swallow'; }],
  ['openapi.yaml', openapi, (broken) => { delete broken.paths['/readyz'].get.responses['200'].description; }],
  ['openapi-fflow.yaml', openapi, (broken) => { broken.components.parameters.name.in = 'pocket'; }],
];

const folder = process.argv[2];
let wrong = 0;
const complain = (text) => { wrong += 1; console.error(text); };

for (const [name, check, spoil] of CONTRACTS) {
  const document = parse(readFileSync(join(folder, name), 'utf8'));
  const complaints = await check(document);
  complaints.forEach(({ instancePath, message }) => complain(`${name}: ${instancePath ?? ''} ${message}`));
  if (complaints.length > 0) continue;
  spoil(document);
  if ((await check(document)).length === 0) complain(`${name}: a broken copy was taken for valid`);
  else console.log(`${name}: valid`);
}
process.exit(wrong === 0 ? 0 : 1);
