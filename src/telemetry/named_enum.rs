//! Enums whose variants have names in labels and logs.

/// Declares an enum, the list `ALL` of its variants in order, and their names.
macro_rules! named_enum {
    ($(#[$meta:meta])* enum $type:ident { $($(#[$variant_meta:meta])* $variant:ident => $name:literal,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum $type {
            $($(#[$variant_meta])* $variant,)*
        }

        impl $type {
            /// All variants, in the order of their discriminants.
            pub(crate) const ALL: [Self; [$($name),*].len()] = [$(Self::$variant),*];

            /// Name in labels and logs.
            pub(crate) fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

pub(crate) use named_enum;
