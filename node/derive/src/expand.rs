//! The implementation of `Label` for one type.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::spanned::Spanned as _;
use syn::{
    Data, DataStruct, DeriveInput, Error, Fields, Ident, Index, LitStr, Member, Path, Result,
};

use crate::attributes::{FieldRole, TypeAttributes, VariantAttributes};

/// `impl Label for` the type of this declaration.
pub(crate) fn expand(input: &DeriveInput) -> Result<TokenStream> {
    let attributes = TypeAttributes::read(&input.attrs)?;
    let shapes = shapes(input, &attributes)?;
    reject_contradictions(&attributes, &shapes)?;
    let root = match &attributes.root {
        Some(root) => quote!(#root),
        None => quote!(::stormglass_node),
    };
    let argument = argument(&input.data);
    let kind = kind(&attributes, &shapes, &argument);
    let subjects = subjects(&root, &attributes, &shapes, &argument);
    let detail = detail(&attributes, &argument);
    let warning = warning(&attributes, &shapes);
    let name = &input.ident;
    let (generics, arguments, bounds) = input.generics.split_for_impl();
    Ok(quote! {
        #[automatically_derived]
        impl #generics #root::contract::Label for #name #arguments #bounds {
            fn kind(&self) -> &'static str {
                #kind
            }
            #subjects
            #detail
            #warning
        }
    })
}

/// A struct, or a variant of an enum.
struct Shape {
    /// `Self`, or `Self::Variant`.
    path: TokenStream,
    kind: LitStr,
    /// Whether the variant is marked. All of a type that is marked itself are warnings.
    warning: bool,
    marked_fields: Vec<(Member, FieldRole)>,
}

fn shapes(input: &DeriveInput, attributes: &TypeAttributes) -> Result<Vec<Shape>> {
    match &input.data {
        Data::Struct(declaration) => Ok(vec![Shape {
            path: quote!(Self),
            kind: attributes.kind.clone().unwrap_or_else(|| word(&input.ident)),
            warning: false,
            marked_fields: marked_fields(&declaration.fields)?,
        }]),
        Data::Enum(declaration) => {
            if let Some(kind) = &attributes.kind {
                let message = "the kinds of an enum are those of its variants: mark the variant";
                return Err(Error::new(kind.span(), message));
            }
            let mut shapes = Vec::new();
            for variant in &declaration.variants {
                let own = VariantAttributes::read(&variant.attrs)?;
                if let (Some(kind), Some(_)) = (&own.kind, &attributes.functions.kind) {
                    let message = "`kind_with` of the type names this kind already";
                    return Err(Error::new(kind.span(), message));
                }
                let name = &variant.ident;
                shapes.push(Shape {
                    path: quote!(Self::#name),
                    kind: own.kind.unwrap_or_else(|| word(name)),
                    warning: own.warning.is_some(),
                    marked_fields: marked_fields(&variant.fields)?,
                });
            }
            Ok(shapes)
        }
        Data::Union(_) => {
            Err(Error::new(input.ident.span(), "a union has no kind: implement `Label` by hand"))
        }
    }
}

fn word(name: &Ident) -> LitStr {
    LitStr::new(&syn::ext::IdentExt::unraw(name).to_string(), name.span())
}

fn marked_fields(fields: &Fields) -> Result<Vec<(Member, FieldRole)>> {
    let mut marked = Vec::new();
    for (index, field) in fields.iter().enumerate() {
        if let Some(role) = FieldRole::read(&field.attrs)? {
            let member = match &field.ident {
                Some(name) => Member::Named(name.clone()),
                None => Member::Unnamed(Index { index: index as u32, span: field.span() }),
            };
            marked.push((member, role));
        }
    }
    Ok(marked)
}

fn reject_contradictions(attributes: &TypeAttributes, shapes: &[Shape]) -> Result<()> {
    let functions = &attributes.functions;
    if let (Some(kind), Some(_)) = (&attributes.kind, &functions.kind) {
        return Err(Error::new(kind.span(), "`kind_with` names the kind already"));
    }
    if let (Some(detail), Some(_)) = (&attributes.detail, &functions.detail) {
        return Err(Error::new(detail.span(), "`detail_with` writes the detail already"));
    }
    let by_function = functions.subject.is_some() || functions.subjects.is_some();
    let marked = shapes.iter().flat_map(|shape| &shape.marked_fields).next();
    match marked {
        Some((member, _)) if by_function => Err(Error::new(
            member.span(),
            "the function of the type names the subjects already: mark no field",
        )),
        _ => Ok(()),
    }
}

/// What a function of the user receives: the foreign value of a newtype, else the value itself.
fn argument(data: &Data) -> TokenStream {
    match data {
        Data::Struct(DataStruct { fields: Fields::Unnamed(fields), .. })
            if fields.unnamed.len() == 1 =>
        {
            quote!(&self.0)
        }
        Data::Struct(_) | Data::Enum(_) | Data::Union(_) => quote!(self),
    }
}

fn kind(attributes: &TypeAttributes, shapes: &[Shape], argument: &TokenStream) -> TokenStream {
    if let Some(function) = &attributes.functions.kind {
        return quote!(#function(#argument));
    }
    let arms = shapes.iter().map(|Shape { path, kind, .. }| quote!(#path { .. } => #kind,));
    match_self(shapes, arms)
}

/// A match that is exhaustive for an enum without variants, too.
fn match_self(shapes: &[Shape], arms: impl Iterator<Item = TokenStream>) -> TokenStream {
    if shapes.is_empty() { quote!(match *self {}) } else { quote!(match self { #(#arms)* }) }
}

/// `subject`, and `further_subjects` if there can be any.
fn subjects(
    root: &TokenStream,
    attributes: &TypeAttributes,
    shapes: &[Shape],
    argument: &TokenStream,
) -> TokenStream {
    let functions = &attributes.functions;
    let has_several = functions.subjects.is_some()
        || shapes.iter().any(|shape| {
            shape.marked_fields.len() > 1
                || shape.marked_fields.iter().any(|(_, role)| *role == FieldRole::Subjects)
        });
    if !has_several {
        let subject = single_subject(root, functions.subject.as_ref(), shapes, argument);
        return quote! {
            fn subject(&self) -> ::core::option::Option<#root::contract::Subject> {
                #subject
            }
        };
    }
    let first = every_subject(root, attributes, shapes, argument, &quote!(.next()));
    let further = every_subject(root, attributes, shapes, argument, &quote!(.skip(1).collect()));
    quote! {
        fn subject(&self) -> ::core::option::Option<#root::contract::Subject> {
            #first
        }
        fn further_subjects(&self) -> ::std::vec::Vec<#root::contract::Subject> {
            #further
        }
    }
}

fn single_subject(
    root: &TokenStream,
    function: Option<&Path>,
    shapes: &[Shape],
    argument: &TokenStream,
) -> TokenStream {
    if let Some(function) = function {
        return quote!(#root::contract::IntoSubject::into_subject(#function(#argument)));
    }
    let arms = shapes.iter().map(|Shape { path, marked_fields, .. }| match &marked_fields[..] {
        [] => quote!(#path { .. } => ::core::option::Option::None,),
        [(member, _), ..] => quote! {
            #path { #member: subject, .. } => {
                #root::contract::IntoSubject::into_subject(subject)
            }
        },
    });
    match_self(shapes, arms)
}

/// The subjects in the order of their fields, reduced by `end`.
fn every_subject(
    root: &TokenStream,
    attributes: &TypeAttributes,
    shapes: &[Shape],
    argument: &TokenStream,
    end: &TokenStream,
) -> TokenStream {
    let none = quote!(::core::iter::empty::<#root::contract::Subject>());
    let one = quote!(#root::contract::IntoSubject::into_subject);
    let functions = &attributes.functions;
    if functions.subjects.is_some() {
        let subject = functions.subject.as_ref();
        let subject = subject.map(|function| quote!(.chain(#one(#function(#argument)))));
        let subjects = functions.subjects.as_ref().map(|function| {
            let all = quote!(::core::iter::IntoIterator::into_iter(#function(#argument)));
            quote!(.chain(#all.filter_map(#one)))
        });
        return quote!(#none #subject #subjects #end);
    }
    let arms = shapes.iter().map(|Shape { path, marked_fields, .. }| {
        let (members, links): (Vec<_>, Vec<_>) = marked_fields
            .iter()
            .enumerate()
            .map(|(index, (member, role))| {
                let name = format_ident!("subject_{index}");
                let link = match role {
                    FieldRole::Subject => quote!(.chain(#one(#name))),
                    FieldRole::Subjects => {
                        let all = quote!(::core::iter::IntoIterator::into_iter(#name));
                        quote!(.chain(#all.filter_map(#one)))
                    }
                };
                (quote!(#member: #name,), link)
            })
            .unzip();
        quote!(#path { #(#members)* .. } => #none #(#links)* #end,)
    });
    match_self(shapes, arms)
}

fn detail(attributes: &TypeAttributes, argument: &TokenStream) -> Option<TokenStream> {
    let written = match (&attributes.functions.detail, &attributes.detail) {
        (Some(function), _) => quote!(#function(#argument, f)),
        (None, Some(_)) => quote!(::core::write!(f, "{self:?}")),
        (None, None) => return None,
    };
    Some(quote! {
        fn detail(&self, f: &mut dyn ::core::fmt::Write) -> ::core::fmt::Result {
            #written
        }
    })
}

fn warning(attributes: &TypeAttributes, shapes: &[Shape]) -> Option<TokenStream> {
    let warnings: Vec<_> =
        shapes.iter().filter(|shape| shape.warning).map(|shape| &shape.path).collect();
    let is_warning = match (&attributes.warning, &warnings[..]) {
        (Some(_), _) => quote!(true),
        (None, []) => return None,
        (None, warnings) => quote!(::core::matches!(self, #(#warnings { .. })|*)),
    };
    Some(quote! {
        fn is_warning(&self) -> bool {
            #is_warning
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(declaration: &str) -> String {
        let input = syn::parse_str(declaration).expect("a declaration");
        expand(&input).expect_err("it is refused").to_string()
    }

    #[test]
    fn a_mistake_is_refused_with_what_would_be_right() {
        for (declaration, message) in [
            (
                "#[label(kinds = \"A\")] struct A;",
                "a type has `kind`, `kind_with`, `subject_with`, `subjects_with`, `detail`, \
                 `detail_with`, `warning` or `crate`",
            ),
            ("enum A { #[label(subject)] B }", "a variant has `kind` or `warning`"),
            ("struct A(#[label(kind = \"B\")] u64);", "a field has `subject` or `subjects`"),
            (
                "#[label(kind = \"two words\")] struct A;",
                "a kind is one word of letters, digits and `_`",
            ),
            ("#[label(kind = \"\")] struct A;", "a kind is one word of letters, digits and `_`"),
            ("#[label(kind = \"B\", kind = \"C\")] struct A;", "is given twice"),
            ("struct A(#[label(subject)] #[label(subjects)] u64);", "is given twice"),
            (
                "#[label(kind = \"B\")] enum A { B }",
                "the kinds of an enum are those of its variants: mark the variant",
            ),
            (
                "#[label(kind = \"B\", kind_with = \"f\")] struct A;",
                "`kind_with` names the kind already",
            ),
            (
                "#[label(kind_with = \"f\")] enum A { #[label(kind = \"B\")] C }",
                "`kind_with` of the type names this kind already",
            ),
            (
                "#[label(detail, detail_with = \"f\")] struct A;",
                "`detail_with` writes the detail already",
            ),
            (
                "#[label(subject_with = \"f\")] struct A(#[label(subject)] u64);",
                "the function of the type names the subjects already: mark no field",
            ),
            ("union A { b: u64 }", "a union has no kind: implement `Label` by hand"),
        ] {
            assert_eq!(error(declaration), message, "{declaration}");
        }
    }

    #[test]
    fn a_path_is_in_quotes() {
        assert!(error("#[label(kind_with = f)] struct A;").contains("string literal"));
        assert!(error("#[label(kind_with = \"1f\")] struct A;").contains("identifier"));
    }
}
