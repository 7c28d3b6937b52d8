//! What a contract must keep for one released before it: every field, value and call that somebody may still send stays
//! what it was. New ones may come; what is no longer used stays reserved.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result};
use prost_types::{DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet};

/// All messages, enums and calls, by full name.
#[derive(Debug, Default)]
pub struct Contract {
    messages: BTreeMap<String, DescriptorProto>,
    enums: BTreeMap<String, EnumDescriptorProto>,
    /// Service, method: types in and out, and whether they stream.
    calls: BTreeMap<(String, String), (String, String)>,
}

impl Contract {
    /// Of the sources in a folder such as `proto/proto`.
    ///
    /// # Errors
    /// They cannot be read, or do not compile.
    pub fn read(folder: &Path) -> Result<Self> {
        let dir = folder.join("containarium/v1");
        let mut files = Vec::new();
        for entry in fs::read_dir(&dir).with_context(|| format!("reading {}", dir.display()))? {
            files.push(entry?.path());
        }
        files.sort();
        let set = protox::compile(files, [folder]).with_context(|| format!("compiling {}", dir.display()))?;
        Ok(Self::of(set))
    }

    fn of(set: FileDescriptorSet) -> Self {
        let mut contract = Self::default();
        for file in set.file {
            let package = file.package().to_owned();
            contract.take_enums(&package, file.enum_type);
            for message in file.message_type {
                contract.take_message(&package, message);
            }
            for service in file.service {
                for method in &service.method {
                    let side =
                        |name: &str, streams: bool| format!("{name}{}", if streams { " as a stream" } else { "" });
                    let ends = (
                        side(method.input_type(), method.client_streaming()),
                        side(method.output_type(), method.server_streaming()),
                    );
                    contract.calls.insert((service.name().to_owned(), method.name().to_owned()), ends);
                }
            }
        }
        contract
    }

    fn take_message(&mut self, path: &str, message: DescriptorProto) {
        let name = format!("{path}.{}", message.name());
        self.take_enums(&name, message.enum_type.clone());
        for nested in message.nested_type.clone() {
            self.take_message(&name, nested);
        }
        self.messages.insert(name, message);
    }

    fn take_enums(&mut self, path: &str, enums: Vec<EnumDescriptorProto>) {
        self.enums.extend(enums.into_iter().map(|each| (format!("{path}.{}", each.name()), each)));
    }

    /// Whether a service has a call.
    #[must_use]
    pub fn has(&self, service: &str, call: &str) -> bool {
        self.calls.contains_key(&(service.to_owned(), call.to_owned()))
    }

    /// In what it breaks with one that was released: one line each, none if it does not.
    #[must_use]
    pub fn breaks_with(&self, released: &Self) -> Vec<String> {
        let mut problems = Vec::new();
        for (name, old) in &released.messages {
            match self.messages.get(name) {
                Some(new) => problems.extend(fields(name, old, new)),
                None => problems.push(format!("message {name} is gone")),
            }
        }
        for (name, old) in &released.enums {
            let Some(new) = self.enums.get(name) else {
                problems.push(format!("enum {name} is gone"));
                continue;
            };
            for value in &old.value {
                if !new.value.iter().any(|now| (now.name(), now.number()) == (value.name(), value.number())) {
                    problems.push(format!("enum {name}: {} = {} is gone", value.name(), value.number()));
                }
            }
        }
        for ((service, call), old) in &released.calls {
            match self.calls.get(&(service.clone(), call.clone())) {
                Some(new) if new == old => {}
                Some(new) => problems.push(format!("{service}.{call} was {old:?}, is {new:?}")),
                None => problems.push(format!("{service}.{call} is gone")),
            }
        }
        problems
    }
}

/// What makes two fields the same on the wire and for people. A field that became one of a `oneof` is still that field.
fn shape(field: &FieldDescriptorProto) -> (&str, i32, i32, &str) {
    (field.name(), field.label.unwrap_or_default(), field.r#type.unwrap_or_default(), field.type_name())
}

fn is_reserved(message: &DescriptorProto, number: i32) -> bool {
    message.reserved_range.iter().any(|range| (range.start()..range.end()).contains(&number))
}

fn fields(name: &str, old: &DescriptorProto, new: &DescriptorProto) -> Vec<String> {
    let mut problems = Vec::new();
    for field in &old.field {
        match new.field.iter().find(|now| now.number() == field.number()) {
            Some(now) if shape(now) == shape(field) => {}
            Some(now) => problems.push(format!(
                "{name}: number {} was {} and is {}, or of another type",
                field.number(),
                field.name(),
                now.name()
            )),
            None if is_reserved(new, field.number()) => {}
            None => problems.push(format!("{name}: {} = {} is gone and not reserved", field.name(), field.number())),
        }
    }
    let taken = new.field.iter().filter(|field| is_reserved(old, field.number()));
    problems.extend(taken.map(|field| format!("{name}: number {} was reserved", field.number())));
    problems
}

/// In what the migrations in `new` break with those in `released`, which some database has gone through.
///
/// # Errors
/// A folder cannot be read.
pub fn migrations_break(new: &Path, released: &Path) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    for entry in fs::read_dir(released).with_context(|| format!("reading {}", released.display()))? {
        let old = entry?.path();
        let name = old.file_name().context("a file has a name")?;
        match fs::read(new.join(name)) {
            Ok(now) if now == fs::read(&old)? => {}
            Ok(_) => problems.push(format!("migration {} was changed after it was released", name.display())),
            Err(_) => problems.push(format!("migration {} is gone", name.display())),
        }
    }
    Ok(problems)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contract(text: &str) -> Contract {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("containarium/v1");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("a.proto"), format!("syntax = \"proto3\";\npackage c.v1;\n{text}")).unwrap();
        Contract::read(dir.path()).unwrap()
    }

    const RELEASED: &str = "message A { string name = 1; uint64 size = 2; reserved 9; }\n\
                            enum E { E_UNSPECIFIED = 0; E_ONE = 1; }\n\
                            service S { rpc Do(A) returns (stream A); }";

    #[test]
    fn what_is_new_breaks_nothing() {
        let new = "message A { string name = 1; uint64 size = 2; repeated B more = 30; reserved 9; message B { E e = 1; } }\n\
                   enum E { E_UNSPECIFIED = 0; E_ONE = 1; E_TWO = 2; }\n\
                   service S { rpc Do(A) returns (stream A); rpc More(A) returns (A); }";
        assert_eq!(contract(new).breaks_with(&contract(RELEASED)), Vec::<String>::new());
        assert!(contract(new).has("S", "More") && !contract(RELEASED).has("S", "More"));
    }

    #[test]
    fn every_break_is_told() {
        let cases = [
            ("string name = 1;", "string name = 3;", "name = 1 is gone"),
            ("uint64 size = 2;", "int64 size = 2;", "number 2 was size"),
            ("uint64 size = 2;", "uint64 bytes = 2;", "is bytes"),
            ("uint64 size = 2;", "repeated uint64 size = 2;", "another type"),
            ("reserved 9;", "string nine = 9;", "number 9 was reserved"),
            ("E_ONE = 1;", "E_ONE = 2;", "E_ONE = 1 is gone"),
            ("returns (stream A)", "returns (A)", "S.Do was"),
            ("rpc Do", "rpc Did", "S.Do is gone"),
            ("enum E ", "enum F ", "enum c.v1.E is gone"),
        ];
        for (old, new, told) in cases {
            let changed = RELEASED.replace(old, new);
            assert_ne!(changed, RELEASED);
            let problems = contract(&changed).breaks_with(&contract(RELEASED));
            assert!(problems.iter().any(|problem| problem.contains(told)), "{old} -> {new}: {problems:?}");
        }
        // One that is no longer used, as it should be done.
        let gone = RELEASED.replace("uint64 size = 2; reserved 9;", "reserved 2, 9;");
        assert_eq!(contract(&gone).breaks_with(&contract(RELEASED)), Vec::<String>::new());
    }

    #[test]
    fn a_migration_that_was_released_stays_as_it_is() {
        let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for name in ["0001_a.sql", "0002_b.sql"] {
            fs::write(old.path().join(name), name).unwrap();
        }
        fs::write(new.path().join("0001_a.sql"), "-- better\n0001_a.sql").unwrap();
        let problems = migrations_break(new.path(), old.path()).unwrap();
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(migrations_break(old.path(), old.path()).unwrap().is_empty());
    }
}
