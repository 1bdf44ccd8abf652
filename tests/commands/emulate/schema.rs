//! A validator for the part of JSON Schema that the published schemas use. A keyword that it does not know is an error,
//! so that none is passed over.

use std::path::PathBuf;

use serde_json::Value;

/// A schema of the folder `emulator/schema`.
pub(crate) fn load(name: &str) -> Value {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("emulator/schema").join(name);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// What is wrong with a value, if anything is.
pub(crate) fn validate(name: &str, value: &Value) -> Result<(), String> {
    let root = load(name);
    check(&root, &root, value, "$")
}

fn check(root: &Value, schema: &Value, v: &Value, at: &str) -> Result<(), String> {
    let fail = |what: String| Err(format!("{at}: {what}, but it is {v}"));
    let fields = match schema {
        Value::Bool(true) => return Ok(()),
        Value::Bool(false) => return fail("nothing is allowed here".into()),
        other => other.as_object().unwrap(),
    };
    let number = v.as_f64().unwrap_or(0.0);
    for (key, s) in fields {
        match key.as_str() {
            "$schema" | "title" | "description" | "$defs" => {}
            "$ref" => match s.as_str().unwrap().strip_prefix("#/$defs/") {
                Some(name) => check(root, &root["$defs"][name], v, at)?,
                None => {
                    let other = load(s.as_str().unwrap());
                    check(&other, &other, v, at)?;
                }
            },
            "type" => {
                let fits = match s.as_str().unwrap() {
                    "object" => v.is_object(),
                    "array" => v.is_array(),
                    "string" => v.is_string(),
                    "boolean" => v.is_boolean(),
                    "null" => v.is_null(),
                    "number" => v.is_number(),
                    "integer" => v.is_i64() || v.is_u64(),
                    t => panic!("type {t}"),
                };
                if !fits {
                    return fail(format!("it should be of type {s}"));
                }
            }
            "enum" if !s.as_array().unwrap().contains(v) => return fail(format!("it should be one of {s}")),
            "minimum" if v.is_number() && number < s.as_f64().unwrap() => {
                return fail(format!("at least {s}"));
            }
            "maximum" if v.is_number() && number > s.as_f64().unwrap() => {
                return fail(format!("at most {s}"));
            }
            "enum" | "minimum" | "maximum" => {}
            "pattern" => {
                assert_eq!(s, "^([0-9a-fA-F]{2})*$", "the only pattern that is understood");
                let text = v.as_str().unwrap_or("");
                if !text.len().is_multiple_of(2) || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
                    return fail("hexadecimal digits".into());
                }
            }
            "anyOf" | "oneOf" => {
                let tries: Vec<_> = s.as_array().unwrap().iter().map(|s| check(root, s, v, at)).collect();
                let good = tries.iter().filter(|t| t.is_ok()).count();
                if good == 0 || key == "oneOf" && good != 1 {
                    return fail(format!("{good} alternatives of {key} fit: {tries:?}"));
                }
            }
            "required" => {
                let missing = s.as_array().unwrap().iter().find(|k| v.get(k.as_str().unwrap()).is_none());
                if let Some(k) = missing.filter(|_| v.is_object()) {
                    return fail(format!("it lacks {k}"));
                }
            }
            "properties" => {
                for (name, s) in s.as_object().unwrap() {
                    if let Some(v) = v.get(name) {
                        check(root, s, v, &format!("{at}.{name}"))?;
                    }
                }
            }
            "additionalProperties" => {
                let known = |n: &str| fields.get("properties").is_some_and(|p| p.get(n).is_some());
                for (name, v) in v.as_object().into_iter().flatten().filter(|(n, _)| !known(n)) {
                    check(root, s, v, &format!("{at}.{name}"))?;
                }
            }
            "prefixItems" => {
                for (i, (s, v)) in s.as_array().unwrap().iter().zip(v.as_array().unwrap()).enumerate() {
                    check(root, s, v, &format!("{at}[{i}]"))?;
                }
            }
            "items" => {
                let before = fields.get("prefixItems").map_or(0, |p| p.as_array().unwrap().len());
                for (i, v) in v.as_array().into_iter().flatten().enumerate().skip(before) {
                    check(root, s, v, &format!("{at}[{i}]"))?;
                }
            }
            "minItems" | "maxItems" => {
                let n = v.as_array().map_or(0, Vec::len) as u64;
                if (key == "minItems") == (n < s.as_u64().unwrap()) && n != s.as_u64().unwrap() {
                    return fail(format!("{key} is {s}"));
                }
            }
            other => panic!("the validator does not know `{other}`"),
        }
    }
    Ok(())
}

#[test]
fn the_validator_refuses() {
    let finding = serde_json::json!([{
        "kind": "race", "kernel": "k", "block": [0, 0, 0], "other": null, "message": "", "launch": 0, "seed": null,
        "at": { "block": [0, 0, 0], "thread": [1, 0, 0], "ptx_line": 3, "source_line": ["a.cu", 5], "instruction": "" },
    }]);
    assert_eq!(validate("findings.json", &finding), Ok(()));
    for (path, bad) in [
        ("/0/kind", serde_json::json!("rice")),
        ("/0/block", serde_json::json!([0, 0])),
        ("/0/block", serde_json::json!([0, 0, 0, 0])),
        ("/0/block/1", serde_json::json!(-1)),
        ("/0/at/ptx_line", serde_json::json!(1.5)),
        ("/0/at/source_line", serde_json::json!(["a.cu"])),
        ("/0/at/source_line", serde_json::json!(["a.cu", 5, 6])),
        ("/0/message", serde_json::json!(null)),
        ("/0/at", serde_json::json!({})),
        ("/0", serde_json::json!({ "more": 1 })),
    ] {
        let mut f = finding.clone();
        *f.pointer_mut(path).unwrap() = bad;
        assert!(validate("findings.json", &f).is_err(), "{path} {f}");
    }
}
