//! The attributes `#[label(...)]` of a type, a variant and a field.

use syn::meta::ParseNestedMeta;
use syn::spanned::Spanned as _;
use syn::{Attribute, Error, LitStr, Path, Result};

/// `#[label(...)]` on the type.
#[derive(Default)]
pub(crate) struct TypeAttributes {
    pub kind: Option<LitStr>,
    pub functions: Functions,
    /// The detail is the `Debug` text.
    pub detail: Option<Path>,
    pub warning: Option<Path>,
    /// Where the contract is, if not in `::stormglass_node`.
    pub root: Option<Path>,
}

/// Functions that stand for what a derived label would take from variants and fields.
#[derive(Default)]
pub(crate) struct Functions {
    pub kind: Option<Path>,
    pub subject: Option<Path>,
    pub subjects: Option<Path>,
    pub detail: Option<Path>,
}

impl TypeAttributes {
    pub(crate) fn read(attributes: &[Attribute]) -> Result<TypeAttributes> {
        let mut read = TypeAttributes::default();
        for_each_key(attributes, |key| {
            let functions = &mut read.functions;
            match name_of(key).as_str() {
                "kind" => set(&mut read.kind, key, kind(key)?),
                "kind_with" => set(&mut functions.kind, key, path(key)?),
                "subject_with" => set(&mut functions.subject, key, path(key)?),
                "subjects_with" => set(&mut functions.subjects, key, path(key)?),
                "detail_with" => set(&mut functions.detail, key, path(key)?),
                "detail" => set(&mut read.detail, key, key.path.clone()),
                "warning" => set(&mut read.warning, key, key.path.clone()),
                "crate" => set(&mut read.root, key, path(key)?),
                _ => Err(key.error(
                    "a type has `kind`, `kind_with`, `subject_with`, `subjects_with`, `detail`, \
                     `detail_with`, `warning` or `crate`",
                )),
            }
        })?;
        Ok(read)
    }
}

/// `#[label(...)]` on a variant.
#[derive(Default)]
pub(crate) struct VariantAttributes {
    pub kind: Option<LitStr>,
    pub warning: Option<Path>,
}

impl VariantAttributes {
    pub(crate) fn read(attributes: &[Attribute]) -> Result<VariantAttributes> {
        let mut read = VariantAttributes::default();
        for_each_key(attributes, |key| match name_of(key).as_str() {
            "kind" => set(&mut read.kind, key, kind(key)?),
            "warning" => set(&mut read.warning, key, key.path.clone()),
            _ => Err(key.error("a variant has `kind` or `warning`")),
        })?;
        Ok(read)
    }
}

/// What a field marked with `#[label(...)]` holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum FieldRole {
    Subject,
    /// A collection of subjects.
    Subjects,
}

impl FieldRole {
    /// `None` for a field without a mark.
    pub(crate) fn read(attributes: &[Attribute]) -> Result<Option<FieldRole>> {
        let mut role = None;
        for_each_key(attributes, |key| {
            let marked = match name_of(key).as_str() {
                "subject" => FieldRole::Subject,
                "subjects" => FieldRole::Subjects,
                _ => return Err(key.error("a field has `subject` or `subjects`")),
            };
            set(&mut role, key, marked)
        })?;
        Ok(role)
    }
}

fn for_each_key(
    attributes: &[Attribute],
    mut read: impl FnMut(&ParseNestedMeta<'_>) -> Result<()>,
) -> Result<()> {
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("label")) {
        attribute.parse_nested_meta(|key| read(&key))?;
    }
    Ok(())
}

fn name_of(key: &ParseNestedMeta<'_>) -> String {
    key.path.get_ident().map(ToString::to_string).unwrap_or_default()
}

fn set<T>(slot: &mut Option<T>, key: &ParseNestedMeta<'_>, value: T) -> Result<()> {
    if slot.replace(value).is_some() {
        return Err(Error::new(key.path.span(), "is given twice"));
    }
    Ok(())
}

/// A kind is a word of a schedule.
fn kind(key: &ParseNestedMeta<'_>) -> Result<LitStr> {
    let literal: LitStr = key.value()?.parse()?;
    let word = literal.value();
    let is_word = word.starts_with(char::is_alphabetic)
        && word.chars().all(|c| c.is_alphanumeric() || c == '_');
    if is_word {
        Ok(literal)
    } else {
        Err(Error::new(literal.span(), "a kind is one word of letters, digits and `_`"))
    }
}

/// A path in quotes: `"kind_of"`.
fn path(key: &ParseNestedMeta<'_>) -> Result<Path> {
    let literal: LitStr = key.value()?.parse()?;
    literal.parse_with(Path::parse_mod_style)
}
