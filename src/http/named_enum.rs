//! Enums whose variants have names in headers, queries, labels or logs.

/// Declares an enum, the list `ALL` of its variants in order, and their names.
macro_rules! named_enum {
    ($(#[$meta:meta])* $vis:vis enum $type:ident { $($(#[$variant_meta:meta])* $variant:ident => $name:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        $vis enum $type {
            $($(#[$variant_meta])* $variant,)*
        }

        #[allow(dead_code, reason = "few enums are read back from their names")]
        impl $type {
            /// All variants, in the order of their discriminants.
            $vis const ALL: [Self; [$($name),*].len()] = [$(Self::$variant),*];

            /// Name in headers, queries, labels and logs.
            $vis const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// The variant of this name, compared byte for byte.
            $vis fn named(name: &[u8]) -> Option<Self> {
                Self::ALL.into_iter().find(|known| known.name().as_bytes() == name)
            }
        }
    };
}

pub(crate) use named_enum;
