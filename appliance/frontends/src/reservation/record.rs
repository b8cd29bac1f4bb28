//! How the state survives power loss: the bytes that the volume keeps for it.
//!
//! Little-endian: version u16 (1), type of the reservation u8 (its NVMe value, 0 for none), 0 u8,
//! place of the holder among the registrants u16 (FFFFh: none, or all of them), registrant count
//! u16; then for each registrant its key u64, a byte that says what it is, and the rest:
//! 1, SCSI: target port u16, length of the name u16, name; 2, NVMe: host identifier, 16 bytes.
//! Without persistence there are no bytes. The generation is not kept: it starts at 0 with the
//! server (SPC-4 section 6.15.2).

use super::{Held, Identity, Kind, REGISTRANTS_MAX, Registrant, State};

const VERSION: u16 = 1;
const NO_HOLDER: u16 = u16::MAX;
const SCSI: u8 = 1;
const NVME: u8 = 2;
/// The longest iSCSI name, `,i,0x` and an ISID.
pub(super) const NAME_BYTES_MAX: usize = 223 + 5 + 12;

/// The bytes to keep; none when nothing is to persist.
pub(super) fn encode(state: &State) -> Vec<u8> {
    if !state.is_persistent {
        return Vec::new();
    }
    let mut bytes = Vec::new();
    let kind = state.held.as_ref().map_or(0, |held| held.kind.nvme());
    let holder = state.held.as_ref().and_then(|held| held.holder.as_ref());
    let mut all = state.registrants.iter();
    let place = holder.and_then(|holder| all.position(|one| one.identity == *holder));
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend([kind, 0]);
    bytes.extend(place.map_or(NO_HOLDER, |place| place as u16).to_le_bytes());
    bytes.extend((state.registrants.len() as u16).to_le_bytes());
    for registrant in &state.registrants {
        bytes.extend(registrant.key.to_le_bytes());
        encode_identity(&registrant.identity, &mut bytes);
    }
    bytes
}

fn encode_identity(identity: &Identity, bytes: &mut Vec<u8>) {
    match identity {
        Identity::Scsi {
            initiator_port,
            target_port,
        } => {
            bytes.push(SCSI);
            bytes.extend(target_port.to_le_bytes());
            bytes.extend((initiator_port.len() as u16).to_le_bytes());
            bytes.extend(initiator_port.as_bytes());
        }
        Identity::Nvme { host_id } => {
            bytes.push(NVME);
            bytes.extend(host_id);
        }
    }
}

/// Checks and reads what [`encode`] made.
pub(super) fn decode(bytes: &[u8]) -> Result<State, &'static str> {
    if bytes.is_empty() {
        return Ok(State::default());
    }
    let mut reader = Reader(bytes);
    if reader.u16()? != VERSION {
        return Err("kept by a later version");
    }
    let (kind, zero) = (reader.u8()?, reader.u8()?);
    let (holder, count) = (reader.u16()?, usize::from(reader.u16()?));
    if zero != 0 || count > REGISTRANTS_MAX {
        return Err("header out of range");
    }
    let mut registrants = Vec::with_capacity(count);
    for _ in 0..count {
        registrants.push(reader.registrant()?);
    }
    if !reader.0.is_empty() {
        return Err("too long");
    }
    check_unique(&registrants)?;
    Ok(State {
        generation: 0,
        held: decode_held(kind, holder, &registrants)?,
        registrants,
        is_persistent: true,
    })
}

fn check_unique(registrants: &[Registrant]) -> Result<(), &'static str> {
    let mut identities: Vec<_> = registrants.iter().map(|one| &one.identity).collect();
    identities.sort_unstable();
    let unique = identities.windows(2).all(|pair| pair[0] != pair[1]);
    unique.then_some(()).ok_or("a registrant twice")
}

fn decode_held(
    kind: u8,
    holder: u16,
    registrants: &[Registrant],
) -> Result<Option<Held>, &'static str> {
    let holder = match holder {
        NO_HOLDER => None,
        place => Some(
            registrants
                .get(usize::from(place))
                .ok_or("no such holder")?,
        ),
    };
    if kind == 0 {
        let none = holder.is_none().then_some(None);
        return none.ok_or("a holder of nothing");
    }
    let kind = Kind::from_nvme(kind).ok_or("unknown type of reservation")?;
    if kind.is_all_registrants() != holder.is_none() || registrants.is_empty() {
        return Err("the holder does not fit the type");
    }
    let holder = holder.map(|holder| holder.identity.clone());
    Ok(Some(Held { kind, holder }))
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], &'static str> {
        let (taken, rest) = self.0.split_first_chunk().ok_or("too short")?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8, &'static str> {
        self.take::<1>().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Result<u16, &'static str> {
        self.take().map(u16::from_le_bytes)
    }

    fn registrant(&mut self) -> Result<Registrant, &'static str> {
        let key = u64::from_le_bytes(self.take()?);
        let identity = match self.u8()? {
            SCSI => self.scsi()?,
            NVME => Identity::Nvme {
                host_id: self.take()?,
            },
            _ => return Err("unknown kind of registrant"),
        };
        let valid = (key != 0).then_some(Registrant { identity, key });
        valid.ok_or("a registrant without a key")
    }

    fn scsi(&mut self) -> Result<Identity, &'static str> {
        let target_port = self.u16()?;
        let len = usize::from(self.u16()?);
        if len > NAME_BYTES_MAX {
            return Err("name too long");
        }
        let (name, rest) = self.0.split_at_checked(len).ok_or("too short")?;
        self.0 = rest;
        let name = std::str::from_utf8(name).map_err(|_| "name is not text")?;
        Ok(Identity::Scsi {
            initiator_port: name.to_owned(),
            target_port,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(kind: Kind) -> State {
        let scsi = Identity::Scsi {
            initiator_port: "iqn.2026-11.example:a,i,0x800000000001".to_owned(),
            target_port: 2,
        };
        let nvme = Identity::Nvme { host_id: [7; 16] };
        let holder = (!kind.is_all_registrants()).then(|| nvme.clone());
        let all = [(scsi, u64::MAX), (nvme, 0x11)];
        let of = |(identity, key)| Registrant { identity, key };
        State {
            generation: 0,
            registrants: all.into_iter().map(of).collect(),
            held: Some(Held { kind, holder }),
            is_persistent: true,
        }
    }

    #[test]
    fn what_is_kept_comes_back() {
        for kind in Kind::ALL {
            let state = example(kind);
            assert_eq!(decode(&encode(&state)), Ok(state));
        }
        let mut state = example(Kind::WriteExclusive);
        state.is_persistent = false;
        assert!(encode(&state).is_empty(), "nothing is kept");
        assert_eq!(decode(&[]), Ok(State::default()));
    }

    /// Written down from the description above, not from the encoder.
    #[test]
    fn the_bytes_are_as_described() {
        let state = State {
            registrants: vec![Registrant {
                identity: Identity::Scsi {
                    initiator_port: "ab".to_owned(),
                    target_port: 0x0102,
                },
                key: 0x1122_3344_5566_7788,
            }],
            held: Some(Held {
                kind: Kind::ExclusiveAccessRegistrantsOnly,
                holder: Some(Identity::Scsi {
                    initiator_port: "ab".to_owned(),
                    target_port: 0x0102,
                }),
            }),
            is_persistent: true,
            generation: 9,
        };
        let expected = [
            1, 0, 4, 0, 0, 0, 1, 0, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 1, 2, 1, 2, 0,
            b'a', b'b',
        ];
        assert_eq!(encode(&state), expected);
    }

    /// Cut short, or with any byte changed, it is refused or is another valid state; never a panic.
    #[test]
    fn damage_is_refused_or_harmless() {
        let bytes = encode(&example(Kind::WriteExclusive));
        for len in 1..bytes.len() {
            assert!(decode(&bytes[..len]).is_err(), "{len} bytes");
        }
        assert!(decode(&[&bytes[..], &[0]].concat()).is_err());
        for place in 0..bytes.len() {
            for value in 0..=u8::MAX {
                let mut damaged = bytes.clone();
                damaged[place] = value;
                if let Ok(state) = decode(&damaged) {
                    assert_eq!(encode(&state), damaged, "byte {place} is {value}");
                }
            }
        }
    }

    /// The longest names and all places taken: less than the 65,472 bytes that a volume keeps.
    #[test]
    fn a_full_table_fits() {
        let of = |number: usize| Registrant {
            identity: Identity::Scsi {
                initiator_port: format!("{number:0>NAME_BYTES_MAX$}"),
                target_port: u16::MAX,
            },
            key: u64::MAX,
        };
        let state = State {
            registrants: (0..REGISTRANTS_MAX).map(of).collect(),
            is_persistent: true,
            ..State::default()
        };
        let bytes = encode(&state);
        assert!(bytes.len() < 40_000, "{} bytes", bytes.len());
        assert_eq!(decode(&bytes), Ok(state));
    }
}
