//! How a value is split up among its owners: what the schema says to every walk of this module.

use serde_json::Value;

use super::element;
use crate::resource::Resource;
use crate::schema::{self, Field, ListKey, ListType, Shape, Struct};

/// The parts of a value that have owners of their own.
#[derive(Clone, Copy)]
pub(super) enum Parts {
    /// None: a scalar, or a map, struct or list that is atomic.
    Whole,
    /// The fields of a struct.
    Struct(&'static Struct),
    /// The entries of a map, whose values have this shape.
    Map(&'static Shape),
    /// The items of a list of scalars.
    Set,
    /// The items of a list, told apart by these keys.
    Items(&'static Shape, &'static [ListKey]),
}

impl Parts {
    /// The parts of an object of this resource.
    pub(super) fn root(resource: Resource) -> Self {
        Self::Struct(schema::root(resource))
    }

    fn of_shape(shape: &'static Shape) -> Self {
        match shape {
            Shape::Struct(index) => {
                let kind = schema::struct_at(*index);
                if kind.atomic { Self::Whole } else { Self::Struct(kind) }
            }
            Shape::Map(values) => Self::Map(values),
            Shape::List(items, rules) => match rules.apply {
                ListType::Atomic => Self::Whole,
                ListType::Set => Self::Set,
                ListType::Map(keys) => Self::Items(items, keys),
            },
            _ => Self::Whole,
        }
    }

    fn of_field(field: &'static Field) -> Self {
        if field.atomic { Self::Whole } else { Self::of_shape(&field.shape) }
    }

    /// The parts of a field's value, or of an entry's; a field that the schema does not know has none.
    pub(super) fn field(self, name: &str) -> Self {
        match self {
            Self::Struct(kind) => kind.field(name).map_or(Self::Whole, Self::of_field),
            Self::Map(values) => Self::of_shape(values),
            Self::Whole | Self::Set | Self::Items(..) => Self::Whole,
        }
    }

    /// The parts of an item of a list.
    pub(super) fn item(self) -> Self {
        match self {
            Self::Items(items, _) => Self::of_shape(items),
            _ => Self::Whole,
        }
    }

    /// The parts of what a step of a path leads to.
    pub(super) fn step(self, step: &str) -> Self {
        element::field_name(step).map_or_else(|| self.item(), |name| self.field(name))
    }

    /// The step to an item of this list; None for an item that cannot be told from others, which validation refuses.
    pub(super) fn step_to(self, item: &Value) -> Option<String> {
        match self {
            Self::Set => match item {
                Value::Object(_) | Value::Array(_) | Value::Null => None,
                scalar => Some(element::value(scalar)),
            },
            Self::Items(_, keys) => element::keys(item, keys),
            Self::Whole | Self::Struct(_) | Self::Map(_) => None,
        }
    }

    /// Whether Kubernetes' own types always have this field, be it empty: nobody can add or remove it then.
    pub(super) fn always_has(self, name: &str) -> bool {
        match self {
            Self::Struct(kind) => kind.field(name).is_some_and(|field| field.always),
            _ => false,
        }
    }
}
