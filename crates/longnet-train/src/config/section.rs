//! What a config section is: fields with a name, a line of documentation, a type and a default.

/// One field of a section.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its key in the section.
    pub name: &'static str,
    /// What it means.
    pub doc: &'static str,
    /// Its type as JSON Schema.
    pub schema: fn() -> serde_json::Value,
}

/// A section of the config, as the reader, the checks and `config show` see it.
pub trait Section {
    /// Its key in the file.
    fn key(&self) -> &'static str;

    /// What it is about.
    fn doc(&self) -> &'static str;

    /// Its fields, in the order they are shown.
    fn fields(&self) -> &'static [Field];

    /// Sets the field `name`.
    ///
    /// # Errors
    ///
    /// What is wrong with the value.
    ///
    /// # Panics
    ///
    /// If the section has no such field.
    fn set(&mut self, name: &str, value: &toml::Value) -> Result<(), String>;

    /// The value of the field `name`; `None` is an optional field that is not set.
    ///
    /// # Panics
    ///
    /// If the section has no such field.
    fn get(&self, name: &str) -> Option<toml::Value>;
}

/// Declares a section once: its struct, its defaults and its [`Section`] implementation.
macro_rules! section {
    (
        #[doc = $doc:literal]
        $Name:ident = $key:literal {
            $(#[doc = $field_doc:literal] $field:ident: $ty:ty = $default:expr,)+
        }
    ) => {
        #[doc = $doc]
        #[derive(Clone, Debug, PartialEq)]
        pub struct $Name {
            $(#[doc = $field_doc] pub $field: $ty,)+
        }

        impl Default for $Name {
            fn default() -> Self {
                Self { $($field: $default,)+ }
            }
        }

        impl $crate::config::Section for $Name {
            fn key(&self) -> &'static str {
                $key
            }

            fn doc(&self) -> &'static str {
                $doc
            }

            fn fields(&self) -> &'static [$crate::config::Field] {
                &[$($crate::config::Field {
                    name: stringify!($field),
                    doc: $field_doc,
                    schema: <$ty as $crate::config::value::Value>::schema,
                },)+]
            }

            fn set(&mut self, name: &str, value: &toml::Value) -> Result<(), String> {
                use $crate::config::value::Value;
                match name {
                    $(stringify!($field) => self.$field = Value::read(value)?,)+
                    _ => unreachable!("section {} has no field {name}", $key),
                }
                Ok(())
            }

            fn get(&self, name: &str) -> Option<toml::Value> {
                use $crate::config::value::Value;
                match name {
                    $(stringify!($field) => self.$field.write(),)+
                    _ => unreachable!("section {} has no field {name}", $key),
                }
            }
        }
    };
}
pub(crate) use section;
