//! Numbers as JSON has them.

use serde_json::Value;

/// JSON has no NaN: a figure that is not defined on these rows is null.
pub(crate) fn number(value: f64) -> Value {
    serde_json::Number::from_f64(value).map_or(Value::Null, Value::Number)
}
