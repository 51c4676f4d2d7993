//! A chunk's headers, with the types that amqplib's encoder chooses.

use lapin::types::{AMQPValue, FieldTable};

/// From here on JavaScript numbers have no 64-bit integer form.
const TOO_LARGE: f64 = 9_223_372_036_854_775_808.0;
/// amqplib takes larger numbers for integral without looking.
const SURELY_INTEGRAL: f64 = 1_125_899_906_842_624.0;

/// What the headers of one chunk say.
#[derive(Debug, Clone, PartialEq)]
pub struct ChunkHeaders {
    /// `x-session-id`, as the client wrote it.
    pub session_id: String,
    /// `x-start-byte`, unchecked.
    pub start: f64,
    /// `x-size`, unchecked.
    pub size: f64,
    /// `x-correlation-id`.
    pub correlation_id: String,
}

impl ChunkHeaders {
    /// The field table that travels with the chunk.
    pub fn table(&self) -> FieldTable {
        let mut table = FieldTable::default();
        table.insert("x-session-id".into(), text(&self.session_id));
        table.insert("x-start-byte".into(), number(self.start));
        table.insert("x-size".into(), number(self.size));
        table.insert("x-correlation-id".into(), text(&self.correlation_id));
        table
    }
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

/// The smallest AMQP type that holds the number, as amqplib picks it; fractions and infinities are doubles.
#[allow(clippy::cast_possible_truncation)]
pub fn number(value: f64) -> AMQPValue {
    let fraction = value.abs() < SURELY_INTEGRAL && value.floor() != value;
    if fraction || value >= TOO_LARGE || !value.is_finite() {
        return AMQPValue::Double(value);
    }
    let whole = value as i64;
    if let Ok(small) = i8::try_from(whole) {
        return AMQPValue::ShortShortInt(small);
    }
    if let Ok(short) = i16::try_from(whole) {
        return AMQPValue::ShortInt(short);
    }
    match i32::try_from(whole) {
        Ok(long) => AMQPValue::LongInt(long),
        Err(_) => AMQPValue::LongLongInt(whole),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use lapin::types::parsing::parse_field_table;

    use super::*;

    #[derive(serde::Deserialize)]
    struct Vector {
        name: String,
        table_hex: String,
    }

    fn recorded() -> Vec<(String, FieldTable)> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/vectors/chunk-headers.json");
        let vectors: Vec<Vector> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        vectors.into_iter().map(|vector| (vector.name, decode(&vector.table_hex))).collect()
    }

    fn decode(hex: &str) -> FieldTable {
        let bytes: Vec<u8> =
            (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
        parse_field_table(bytes.as_slice()).unwrap().1
    }

    fn as_number(value: Option<&AMQPValue>) -> Option<f64> {
        match value? {
            AMQPValue::ShortShortInt(value) => Some(f64::from(*value)),
            AMQPValue::ShortInt(value) => Some(f64::from(*value)),
            AMQPValue::LongInt(value) => Some(f64::from(*value)),
            AMQPValue::LongLongInt(value) => Some(*value as f64),
            AMQPValue::Double(value) => Some(*value),
            _ => None,
        }
    }

    fn as_text(value: Option<&AMQPValue>) -> Option<String> {
        match value? {
            AMQPValue::LongString(value) => Some(value.to_string()),
            _ => None,
        }
    }

    /// What gateway would have been told to publish such a table; `None` for tables that it never makes.
    fn told(table: &FieldTable) -> Option<ChunkHeaders> {
        let fields = table.inner();
        Some(ChunkHeaders {
            session_id: as_text(fields.get("x-session-id"))?,
            start: as_number(fields.get("x-start-byte"))?,
            size: as_number(fields.get("x-size"))?,
            correlation_id: as_text(fields.get("x-correlation-id"))?,
        })
    }

    #[test]
    fn headers_have_the_types_of_the_existing_encoder() {
        let mut compared = 0;
        for (name, table) in recorded() {
            if let Some(headers) = told(&table) {
                assert_eq!(headers.table(), table, "{name}");
                compared += 1;
            }
        }
        assert!(compared >= 12, "only {compared} tables were compared");
    }

    #[test]
    fn the_borders_between_the_types_are_exact() {
        assert_eq!(number(-128.0), AMQPValue::ShortShortInt(-128));
        assert_eq!(number(128.0), AMQPValue::ShortInt(128));
        assert_eq!(number(-32_769.0), AMQPValue::LongInt(-32_769));
        assert_eq!(number(2_147_483_648.0), AMQPValue::LongLongInt(2_147_483_648));
        assert_eq!(number(1e19), AMQPValue::Double(1e19));
    }
}
