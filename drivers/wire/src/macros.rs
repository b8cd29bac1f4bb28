//! The two shapes every module is written in: byte-exact structs and open enums.

/// Declares a byte-exact structure: `offset field: type, "doc";` rows, sizes and offsets asserted.
///
/// Fields whose name starts with `rsvd` are left out of `Debug`; they are public so that a caller
/// can use struct update syntax, and because a receiver may want to check that they are zero.
macro_rules! wire_struct {
    (
        $(#[$meta:meta])*
        $name:ident [$size:literal] {
            $( $off:literal $field:ident : $ty:ty, $doc:literal; )*
        }
    ) => {
        $(#[$meta])*
        #[derive(
            Clone, Copy, PartialEq, Eq,
            zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::KnownLayout,
            zerocopy::Immutable, zerocopy::Unaligned,
        )]
        #[repr(C)]
        pub struct $name {
            $( #[doc = concat!("Byte ", $off, ": ", $doc)] pub $field: $ty, )*
        }

        const _: () = {
            assert!(core::mem::size_of::<$name>() == $size);
            $( assert!(core::mem::offset_of!($name, $field) == $off); )*
        };

        impl $name {
            /// Size on the wire in bytes.
            pub const SIZE: usize = $size;

            /// All fields zero.
            #[must_use]
            pub fn zeroed() -> Self {
                zerocopy::FromZeros::new_zeroed()
            }

            /// Views the start of `bytes` as this structure, without a copy.
            ///
            /// Errors: `Truncated` when `bytes` is shorter than [`Self::SIZE`].
            pub fn decode(bytes: &[u8]) -> Result<&Self, $crate::Error> {
                match <Self as zerocopy::FromBytes>::ref_from_prefix(bytes) {
                    Ok((view, _rest)) => Ok(view),
                    Err(_) => Err($crate::Error::Truncated {
                        what: stringify!($name),
                        need_bytes: Self::SIZE,
                        have_bytes: bytes.len(),
                    }),
                }
            }

            /// The bytes to send.
            #[must_use]
            pub fn as_wire(&self) -> &[u8] {
                zerocopy::IntoBytes::as_bytes(self)
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::zeroed()
            }
        }

        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                let mut out = f.debug_struct(stringify!($name));
                $( if !stringify!($field).starts_with("rsvd") {
                    out.field(stringify!($field), &self.$field);
                } )*
                out.finish()
            }
        }
    };
}

/// Declares an enum that keeps values it does not know: a newtype with named constants.
///
/// The `u8` form can be a field of a [`wire_struct!`]; wider forms hold decoded values only,
/// because their byte order would be the machine's.
macro_rules! open_enum {
    ($(#[$meta:meta])* $name:ident : u8 { $($rows:tt)* }) => {
        open_enum! { @define
            [ #[derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::KnownLayout,
                zerocopy::Immutable, zerocopy::Unaligned)] ]
            $(#[$meta])* $name : u8 { $($rows)* }
        }
    };
    ($(#[$meta:meta])* $name:ident : u16 { $($rows:tt)* }) => {
        open_enum! { @define [] $(#[$meta])* $name : u16 { $($rows)* } }
    };
    (@define [$(#[$derive:meta])*] $(#[$meta:meta])* $name:ident : $repr:ty {
        $( $variant:ident = $value:literal, $doc:literal; )*
    }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        $(#[$derive])*
        #[repr(transparent)]
        pub struct $name(pub $repr);

        impl $name {
            $( #[doc = $doc] pub const $variant: Self = Self($value); )*

            /// The name of a known value.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $( $value => Some(stringify!($variant)), )*
                    _ => None,
                }
            }
        }

        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                match self.name() {
                    Some(name) => write!(f, "{}::{name}", stringify!($name)),
                    None => write!(f, "{}({:#04x})", stringify!($name), self.0),
                }
            }
        }
    };
}

/// Declares named bits of an integer: `NAME = bit, "doc";`.
macro_rules! bits {
    (
        $(#[$meta:meta])*
        $name:ident : $repr:ty { $( $bit:ident = $shift:literal, $doc:literal; )* }
    ) => {
        $(#[$meta])*
        pub mod $name {
            $( #[doc = $doc] pub const $bit: $repr = 1 << $shift; )*
        }
    };
}
