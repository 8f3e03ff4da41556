//! What no lens covers: an expression for each way.

use rust_decimal::Decimal;

use crate::config::{Expression, ExpressionValue as Value, Side};
use crate::mapping::class::canonical;
use crate::mapping::{Canonical, Cell, Class};

use super::{On, Reason};

/// The canonical form is the value of one side, which the other side's expression gives. NULL is NULL, and no expression is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Express {
    /// Whose values are compared.
    pub home: Side,
    /// Of that side's column.
    pub class: Class,
    pub to_home: Expression,
    /// None: the field goes one way.
    pub back: Option<Expression>,
}

impl Express {
    /// Whether an expression can be given a column of this class, and give one.
    pub fn takes(class: Class) -> bool {
        !matches!(class, Class::Instant | Class::Json)
    }

    pub fn get<'a>(&self, on: &On<'_>, cells: &'a [Cell]) -> Result<Canonical<'a>, Reason> {
        let Some(raw) = on.one(cells) else { return Ok(Canonical::null()) };
        let own = canonical(on.column(0).class, raw, on.zone)?;
        if on.side == self.home {
            return Ok(Canonical::text(own));
        }
        let Some(given) = evaluated(&self.to_home, on.column(0).class, &own)? else { return Ok(Canonical::null()) };
        Ok(Canonical::text(canonical(self.class, &given, on.zone)?.into_owned()))
    }

    pub fn put(&self, on: &On<'_>, value: Option<&str>, cells: &mut [Cell]) -> Result<(), Reason> {
        let written = match (value, &self.back) {
            (Some(value), _) if on.side == self.home => Some(value.to_owned()),
            (Some(value), Some(back)) => evaluated(back, self.class, value)?,
            (Some(_), None) => return Err("there is no expression for the way back".into()),
            (None, _) => None,
        };
        if let Some(written) = &written {
            canonical(on.column(0).class, written, on.zone)
                .map_err(|reason| format!("{reason}, which the column is"))?;
        }
        on.set(0, written.as_deref(), cells);
        Ok(())
    }

    pub fn spelling(&self) -> String {
        format!("express {} {:?} {:?}", self.home, self.class, self.to_home)
    }
}

fn evaluated(expression: &Expression, class: Class, value: &str) -> Result<Option<String>, Reason> {
    let value = match class {
        Class::Bool => Value::Bool(value == "true"),
        Class::Number => Value::Number(
            Decimal::from_str_exact(value).map_err(|_| "expressions calculate with numbers of at most 28 digits")?,
        ),
        _ => Value::Text(value.to_owned()),
    };
    Ok(match expression.of(value)? {
        Value::Null => None,
        Value::Text(text) => Some(text),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(yes) => Some(yes.to_string()),
    })
}
