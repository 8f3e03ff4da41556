//! Expressions over one value, for what no lens covers. Owns: the language, which is rhai's operators and `if` with the functions
//! below, and its bounds. Never: a statement, a loop, the time, chance.

use std::sync::LazyLock;

use rhai::packages::{ArithmeticPackage, LogicPackage, Package as _};
use rhai::{AST, Dynamic, Engine, EvalAltResult, INT, ImmutableString, Scope};
use rust_decimal::{Decimal, RoundingStrategy};

/// The name of the value.
const VALUE: &str = "value";

/// An expression has no loop; this bounds what is nested in it.
const OPERATIONS_MAX: u64 = 10_000;
const DEPTH_MAX: usize = 64;
/// A text that an expression makes of a longer one is refused.
const TEXT_BYTES_MAX: usize = 1 << 20;

/// An expression that parses.
#[derive(Clone)]
pub struct Expression {
    text: Box<str>,
    parsed: AST,
}

/// What an expression is given and gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Null,
    Text(String),
    /// Exact, of at most 28 digits.
    Number(Decimal),
    Bool(bool),
}

impl Expression {
    /// # Errors
    /// Why it is none, and where.
    pub fn parse(text: &str) -> Result<Expression, String> {
        let scope = scope(Dynamic::UNIT);
        let parsed = ENGINE.compile_expression_with_scope(&scope, text).map_err(|error| error.to_string())?;
        let expression = Expression { text: text.into(), parsed };
        let errors: Vec<Box<EvalAltResult>> = tried().filter_map(|value| expression.evaluated(value).err()).collect();
        if errors.len() < tried().count() {
            return Ok(expression);
        }
        // Functions are looked up by what they are given: one that no value finds is misspelt.
        let lost: Vec<Option<String>> = errors.iter().map(|error| missing(error)).collect();
        if let Some(Some(name)) = lost.first().filter(|_| lost.iter().all(Option::is_some)) {
            return Err(format!("there is no function `{name}` that takes what it is given"));
        }
        match errors.iter().find(|error| matches!(***error, EvalAltResult::ErrorArithmetic(..))) {
            Some(error) => Err(format!("{}, whatever it is given", why(error))),
            None => Ok(expression),
        }
    }

    /// # Errors
    /// Why there is no result; never the value.
    pub fn of(&self, value: Value) -> Result<Value, String> {
        let result = self.evaluated(value).map_err(|error| why(&error))?;
        if result.is_unit() {
            return Ok(Value::Null);
        }
        if let Ok(yes) = result.as_bool() {
            return Ok(Value::Bool(yes));
        }
        if let Ok(whole) = result.as_int() {
            return Ok(Value::Number(whole.into()));
        }
        if let Ok(number) = result.as_decimal() {
            return Ok(Value::Number(number.normalize()));
        }
        result.into_string().map(Value::Text).map_err(|kind| format!("the expression gives a value of type {kind}"))
    }

    fn evaluated(&self, value: Value) -> Result<Dynamic, Box<EvalAltResult>> {
        let value = match value {
            Value::Null => Dynamic::UNIT,
            Value::Text(text) => text.into(),
            Value::Number(number) => Dynamic::from_decimal(number),
            Value::Bool(yes) => yes.into(),
        };
        ENGINE.eval_ast_with_scope(&mut scope(value), &self.parsed)
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Expression) -> bool {
        self.text == other.text
    }
}

impl Eq for Expression {}

impl std::fmt::Debug for Expression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.text)
    }
}

/// Values of each kind, of which an expression that is good for anything takes one, or refuses it for what it says.
fn tried() -> impl Iterator<Item = Value> {
    let texts = ["1", "2", "7.5", "100", "a", ""].map(|text| Value::Text(text.to_owned()));
    let numbers = ["1", "2", "-7.5", "100", "0"].map(|number| Value::Number(number.parse().unwrap_or_default()));
    texts.into_iter().chain(numbers).chain([Value::Bool(true), Value::Bool(false)])
}

fn scope(value: Dynamic) -> Scope<'static> {
    let mut scope = Scope::new();
    scope.push_dynamic(VALUE, value);
    scope
}

/// Without the values that an error of the engine may name.
fn why(error: &EvalAltResult) -> String {
    match error {
        EvalAltResult::ErrorFunctionNotFound(..) => match missing(error) {
            Some(name) => format!("the expression gives `{name}` what it does not take"),
            None => "the expression gives a function what it does not take".into(),
        },
        EvalAltResult::ErrorRuntime(reason, _) => reason.to_string(),
        EvalAltResult::ErrorArithmetic(..) => "the expression divides by zero, or its numbers are too large".into(),
        EvalAltResult::ErrorTooManyOperations(_) => "the expression takes too many steps".into(),
        EvalAltResult::ErrorDataTooLarge(..) => "the expression makes a text that is too long".into(),
        EvalAltResult::ErrorMismatchDataType(..) => "the expression expects a value of another type".into(),
        _ => "the expression cannot be evaluated for this value".into(),
    }
}

/// The function or operator that an error misses.
fn missing(error: &EvalAltResult) -> Option<String> {
    match error {
        // With the types that it was given.
        EvalAltResult::ErrorFunctionNotFound(call, _) => call.split([' ', '(']).next().map(str::to_owned),
        _ => None,
    }
}

static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
    let mut engine = Engine::new_raw();
    engine
        .set_strict_variables(true)
        .set_max_operations(OPERATIONS_MAX)
        .set_max_expr_depths(DEPTH_MAX)
        .set_max_string_size(TEXT_BYTES_MAX)
        .set_max_array_size(OPERATIONS_MAX as usize)
        .disable_symbol("eval");
    ArithmeticPackage::new().register_into_engine(&mut engine);
    LogicPackage::new().register_into_engine(&mut engine);

    engine.register_fn("len", |text: ImmutableString| text.chars().count() as INT);
    engine.register_fn("trim", |text: ImmutableString| text.trim().to_owned());
    engine.register_fn("lower", |text: ImmutableString| text.to_lowercase());
    engine.register_fn("upper", |text: ImmutableString| text.to_uppercase());
    engine.register_fn("contains", |text: ImmutableString, part: ImmutableString| text.contains(&*part));
    engine.register_fn("starts_with", |text: ImmutableString, part: ImmutableString| text.starts_with(&*part));
    engine.register_fn("ends_with", |text: ImmutableString, part: ImmutableString| text.ends_with(&*part));
    engine.register_fn("replace", replace);
    engine.register_fn("part", part);
    engine.register_fn("before", |text: ImmutableString, mark: ImmutableString| {
        text.split_once(&*mark).map_or(text.to_string(), |(before, _)| before.to_owned())
    });
    engine.register_fn("after", |text: ImmutableString, mark: ImmutableString| {
        text.split_once(&*mark).map_or(String::new(), |(_, after)| after.to_owned())
    });
    engine.register_fn("pad", pad);
    engine.register_fn("text", |text: ImmutableString| text);
    engine.register_fn("text", |whole: INT| whole.to_string());
    engine.register_fn("text", |number: Decimal| number.normalize().to_string());
    engine.register_fn("text", |yes: bool| yes.to_string());
    engine.register_fn("number", |number: Decimal| number);
    engine.register_fn("number", |whole: INT| Decimal::from(whole));
    engine.register_fn("number", |text: ImmutableString| -> Result<Decimal, Box<EvalAltResult>> {
        Decimal::from_str_exact(text.trim()).map_err(|_| "the expression takes a text for a number that is none".into())
    });
    engine.register_fn("abs", |number: Decimal| number.abs());
    engine.register_fn("floor", |number: Decimal| number.floor());
    engine.register_fn("round", |number: Decimal, digits: INT| {
        number.round_dp_with_strategy(digits.clamp(0, 28) as u32, RoundingStrategy::MidpointAwayFromZero)
    });
    engine
});

fn replace(text: ImmutableString, old: ImmutableString, new: ImmutableString) -> Result<String, Box<EvalAltResult>> {
    // Refused before it is made.
    let count = if old.is_empty() { text.len() + 1 } else { text.matches(&*old).count() };
    bounded(text.len().saturating_add(count.saturating_mul(new.len())))?;
    Ok(text.replace(&*old, &new))
}

/// So many characters from this one on, the first being 0.
fn part(text: ImmutableString, from: INT, count: INT) -> String {
    let whole = |number: INT| usize::try_from(number).unwrap_or(0);
    text.chars().skip(whole(from)).take(whole(count)).collect()
}

/// Filled from the left to so many characters.
fn pad(text: ImmutableString, length: INT, filling: ImmutableString) -> Result<String, Box<EvalAltResult>> {
    let missing = usize::try_from(length).unwrap_or(0).saturating_sub(text.chars().count());
    bounded(missing.saturating_mul(4))?;
    Ok(filling.chars().cycle().take(missing).chain(text.chars()).collect())
}

fn bounded(bytes: usize) -> Result<(), Box<EvalAltResult>> {
    if bytes > TEXT_BYTES_MAX { Err("the expression makes a text that is too long".into()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::Text(text.into())
    }

    fn number(text: &str) -> Value {
        Value::Number(Decimal::from_str_exact(text).expect("a number"))
    }

    #[test]
    fn expressions_give_texts_exact_numbers_booleans_and_null() {
        for (expression, value, expected) in [
            (r#""C-" + value"#, text("7"), text("C-7")),
            ("value.part(2, 9)", text("C-Ärger"), text("Ärger")),
            ("value.before(\"@\").upper()", text("ann@example.org"), text("ANN")),
            ("value.after(\"@\")", text("ann"), text("")),
            ("value.pad(5, \"0\")", text("42"), text("00042")),
            ("value.replace(\"-\", \"\")", text("1-2-3"), text("123")),
            ("value.trim().len()", text(" Ä "), number("1")),
            ("value / 100", number("1250"), number("12.5")),
            ("value * 1.10", number("0.1"), number("0.11")),
            ("(value - 32) / 1.8", number("50"), number("10")),
            ("-value", number("0.00"), number("0")),
            ("value.round(2)", number("1.005"), number("1.01")),
            ("number(value) + 1", text("0.1"), number("1.1")),
            ("text(value) + \" %\"", number("7.50"), text("7.5 %")),
            ("value > 0", number("1"), Value::Bool(true)),
            ("!value", Value::Bool(true), Value::Bool(false)),
            (r#"if value == "none" { () } else { value }"#, text("none"), Value::Null),
            (r#"if value.starts_with("x") && value.len() > 1 { "long" } else { "short" }"#, text("xy"), text("long")),
            (r#"if value { "Y" } else { "N" }"#, Value::Bool(false), text("N")),
        ] {
            let parsed = Expression::parse(expression).unwrap_or_else(|error| panic!("{expression}: {error}"));
            assert_eq!(parsed.of(value), Ok(expected), "{expression}");
        }
    }

    #[test]
    fn what_is_no_expression_is_refused() {
        for wrong in [
            "",
            "value +",
            "valeu",
            "value.trmi()",
            "let x = 1; x",
            "while true {}",
            "loop {}",
            "{ value; value }",
            "|x| x",
            "fn f() { 1 }",
            "import \"x\" as y",
            "eval(\"1\")",
            "value = 1",
            "timestamp()",
            "1 / 0",
            "value / (2 - 2)",
            "number(value) * 79228162514264337593543950335 * 100 / 0",
        ] {
            assert!(Expression::parse(wrong).is_err(), "{wrong}");
        }
        let never = Expression::parse("1 / 0").expect_err("no result");
        assert_eq!(never, "the expression divides by zero, or its numbers are too large, whatever it is given");
        for right in ["1 / value", "100 / (number(value) - 1)", "number(value.part(3, 2)) / 7", "value"] {
            assert!(Expression::parse(right).is_ok(), "{right}");
        }
    }

    #[test]
    fn what_has_no_result_says_why_without_the_value() {
        let why = |expression: &str, value| {
            Expression::parse(expression).expect("it parses").of(value).expect_err("no result")
        };
        assert_eq!(why("1 / value", number("0")), "the expression divides by zero, or its numbers are too large");
        assert_eq!(why("value.lower()", number("1")), "the expression gives `lower` what it does not take");
        assert_eq!(why("number(value)", text("secret")), "the expression takes a text for a number that is none");
        assert_eq!(why("value.pad(9999999, \"x\")", text("")), "the expression makes a text that is too long");
        assert_eq!(why("[value]", text("")), "the expression gives a value of type array");
    }
}
