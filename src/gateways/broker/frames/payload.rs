//! The payloads that strangers have a say in: a delivery's names, and a message's properties.

/// Tables and arrays within each other, the headers themselves counted. No header of a chunk has any.
pub(super) const DEEPEST: usize = 16;
/// Class and method of `basic.deliver`.
const DELIVER: [u8; 4] = [0, 60, 0, 60];
/// Class, weight and size of the body, before the flags of the properties.
const BEFORE_FLAGS: usize = 12;

/// The properties of a message, one for each flag, in the order of the flags from the highest.
const PROPERTIES: [Property; 14] = {
    use Property::{Name, Table, Wide};
    [Name, Name, Table, Wide(1), Wide(1), Name, Name, Name, Name, Wide(8), Name, Name, Name, Name]
};

/// How a property is written.
#[derive(Clone, Copy)]
enum Property {
    /// A short string.
    Name,
    /// A field table.
    Table,
    /// So many bytes.
    Wide(usize),
}

/// Makes the names in a `basic.deliver` text; other methods are the broker's own words.
pub(super) fn tame_method(payload: &mut [u8]) {
    if !payload.starts_with(&DELIVER) {
        return;
    }
    let mut walk = Walk { bytes: payload, at: DELIVER.len() };
    // Consumer tag; delivery tag and whether it is redelivered; exchange; routing key.
    let _ = walk.name().and_then(|()| walk.skip(9)).and_then(|()| walk.name()).and_then(|()| walk.name());
}

/// Makes every name in the properties of a message text, and its headers shallow.
pub(super) fn tame_header(payload: &mut [u8]) {
    let mut walk = Walk { bytes: payload, at: BEFORE_FLAGS };
    let Some(flags) = walk.number::<2>().map(u16::from_be_bytes) else { return };
    for (bit, property) in (2..16).rev().zip(PROPERTIES) {
        let read = match property {
            _ if flags & (1 << bit) == 0 => Some(()),
            Property::Name => walk.name(),
            Property::Table => walk.table(),
            Property::Wide(bytes) => walk.skip(bytes),
        };
        // What is cut short is no message of RabbitMQ's; lapin says what is wrong.
        if read.is_none() {
            return;
        }
    }
}

/// A way through a payload; `None` where it ends too early.
struct Walk<'a> {
    bytes: &'a mut [u8],
    at: usize,
}

impl Walk<'_> {
    fn skip(&mut self, count: usize) -> Option<()> {
        let next = self.at.checked_add(count).filter(|next| *next <= self.bytes.len())?;
        self.at = next;
        Some(())
    }

    fn number<const N: usize>(&mut self) -> Option<[u8; N]> {
        let number = *self.bytes.get(self.at..)?.first_chunk::<N>()?;
        self.at += N;
        Some(number)
    }

    /// A short string.
    fn name(&mut self) -> Option<()> {
        let [length] = self.number()?;
        let name = self.bytes.get_mut(self.at..self.at + usize::from(length))?;
        if std::str::from_utf8(name).is_err() {
            name.iter_mut().filter(|byte| !byte.is_ascii()).for_each(|byte| *byte = b'?');
        }
        self.skip(usize::from(length))
    }

    /// Where something with a length before it ends.
    fn end(&mut self) -> Option<usize> {
        let length = u32::from_be_bytes(self.number()?) as usize;
        self.at.checked_add(length).filter(|end| *end <= self.bytes.len())
    }

    /// A field table with all that is in it, without recursion.
    fn table(&mut self) -> Option<()> {
        let mut open = vec![(self.end()?, true)];
        while let Some((end, named)) = open.last().copied() {
            if self.at >= end {
                open.pop();
                continue;
            }
            if named {
                self.name()?;
            }
            let kind_at = self.at;
            let [kind] = self.number()?;
            match kind {
                b'F' | b'A' if open.len() < DEEPEST => open.push((self.end()?, kind == b'F')),
                b'F' | b'A' => {
                    self.bytes[kind_at] = b'x';
                    self.at = self.end()?;
                }
                b'S' | b'x' => self.at = self.end()?,
                _ => self.skip(width(kind)?)?,
            }
        }
        Some(())
    }
}

/// Bytes of a value whose type tells them.
fn width(kind: u8) -> Option<usize> {
    match kind {
        b'V' => Some(0),
        b't' | b'b' | b'B' => Some(1),
        b's' | b'U' | b'u' => Some(2),
        b'I' | b'i' | b'f' => Some(4),
        b'D' => Some(5),
        b'L' | b'l' | b'd' | b'T' => Some(8),
        _ => None,
    }
}
