//! What is fuzzed: each target takes any bytes from outside and panics where a promise about them is broken.
//!
//! The programs in `fuzz/` feed them new inputs; `tests/fuzz.rs` replays the stored ones and some random ones.

mod answers;
mod frames;
mod headers;
mod manifests;
mod records;

pub use answers::answers;
pub use frames::frames;
pub use headers::headers;
pub use manifests::manifests;
pub use records::records;

/// What takes any bytes, and panics where a promise is broken.
pub type Target = fn(&[u8]);

/// Every target by its name, which is also that of its folder under `fuzz/corpus`.
pub const TARGETS: [(&str, Target); 5] = [
    ("answers", answers),
    ("frames", frames),
    ("headers", headers),
    ("manifests", manifests),
    ("records", records),
];
