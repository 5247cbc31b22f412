//! Redis's answers as values of ours. Pure; moves bytes instead of copying them.

use ::redis::Value;

/// An entry of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) id: String,
    fields: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Entry {
    /// Takes the value of a field out of the entry.
    pub(super) fn take(&mut self, name: &str) -> Option<Vec<u8>> {
        let (_, value) = self.fields.iter_mut().find(|(field, _)| field == name.as_bytes())?;
        Some(std::mem::take(value))
    }

    /// Milliseconds at which it was added, by Redis's clock.
    pub(super) fn added_at_ms(&self) -> u64 {
        self.id.split('-').next().and_then(|ms| ms.parse().ok()).unwrap_or(0)
    }
}

/// A claim that a script took from another worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reclaimed {
    pub(super) entry: Entry,
    /// Deliveries of this entry, this one included.
    pub(super) deliveries: u32,
    pub(super) former_holder: String,
}

/// Entries of the one stream that XREAD or XREADGROUP was asked for; none when it ran out of time.
pub(super) fn read_entries(value: Value) -> Vec<Entry> {
    let streams = match value {
        Value::Array(streams) => streams.into_iter().next(),
        Value::Map(streams) => {
            return streams.into_iter().next().map(|(_, found)| entries(found)).unwrap_or_default();
        }
        _ => None,
    };
    let found = streams.and_then(|stream| array(stream).into_iter().nth(1));
    found.map(entries).unwrap_or_default()
}

/// Entries as XRANGE gives them.
pub(super) fn entries(value: Value) -> Vec<Entry> {
    array(value).into_iter().filter_map(entry).collect()
}

/// What the script `reclaim` returns.
pub(super) fn read_reclaimed(value: Value) -> Vec<Reclaimed> {
    let row = |row: Value| {
        let mut row = array(row).into_iter();
        let (id, fields) = (row.next()?, row.next()?);
        let entry = entry(Value::Array(vec![id, fields]))?;
        let deliveries = match row.next()? {
            Value::Int(count) => count as u32,
            _ => return None,
        };
        let former_holder = row.next().and_then(text).unwrap_or_default();
        Some(Reclaimed { entry, deliveries, former_holder })
    };
    array(value).into_iter().filter_map(row).collect()
}

/// Bytes of a string.
pub(super) fn bytes(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.into_bytes()),
        _ => None,
    }
}

/// A number that is not negative.
pub(super) fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        _ => None,
    }
}

/// A string.
pub(super) fn text(value: Value) -> Option<String> {
    bytes(value).and_then(|bytes| String::from_utf8(bytes).ok())
}

fn entry(value: Value) -> Option<Entry> {
    let mut parts = array(value).into_iter();
    let id = text(parts.next()?)?;
    let mut flat = array(parts.next()?).into_iter();
    let mut fields = Vec::new();
    while let (Some(name), Some(value)) = (flat.next(), flat.next()) {
        fields.push((bytes(name)?, bytes(value)?));
    }
    Some(Entry { id, fields })
}

/// Elements of a list.
pub(super) fn array(value: Value) -> Vec<Value> {
    match value {
        Value::Array(values) => values,
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn string(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn one_entry() -> Value {
        Value::Array(vec![string("5-1"), Value::Array(vec![string("m"), string("parcel")])])
    }

    #[test]
    fn entries_are_read_from_both_protocols() {
        let entries = Value::Array(vec![one_entry()]);
        let resp2 = Value::Array(vec![Value::Array(vec![string("key"), entries.clone()])]);
        let resp3 = Value::Map(vec![(string("key"), entries)]);
        for reply in [resp2, resp3] {
            let mut found = read_entries(reply);
            assert_eq!(found.len(), 1);
            assert_eq!(found[0].added_at_ms(), 5);
            assert_eq!(found[0].take("m").as_deref(), Some(b"parcel".as_slice()));
            assert_eq!(found[0].take("other"), None);
        }
    }

    #[test]
    fn no_answer_in_time_is_no_entries() {
        assert_eq!(read_entries(Value::Nil), []);
        assert_eq!(read_entries(Value::Int(3)), []);
        assert_eq!(read_reclaimed(Value::Array(vec![Value::Nil, Value::Array(vec![])])), []);
    }
}
