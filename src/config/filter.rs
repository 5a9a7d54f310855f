//! `<filter>`: its expressions compiled, each that cannot be used with its place.

use std::sync::Arc;

use super::plugin::expressions;
use super::problem::Problems;
use super::values::text;
use super::xml::PatternsXml;
use super::{FilterConfig, MirrorConfig, quote};
use crate::filter::Filter;

/// What is not to be mirrored; `None` if the filter is off.
pub(super) fn validate(element: &PatternsXml, problems: &mut Problems<'_>) -> Option<FilterConfig> {
    expressions(element, problems)?;
    let given = element.expressions.iter().filter_map(|exclude| {
        let attribute = exclude.expression.as_ref()?;
        Some((attribute.at, text(&attribute.value).ok()?))
    });
    let (places, excludes): (Vec<_>, Vec<_>) = given.unzip();
    let compiled = match Filter::new(&excludes) {
        Ok(filter) => Arc::new(filter),
        Err(refused) => {
            for (at, refused) in refused {
                problems.error(
                    places[at],
                    format!(
                        "the expression {} cannot be used: {refused}",
                        quote(&excludes[at])
                    ),
                );
            }
            return None;
        }
    };
    problems.warning(
        element.switch.at,
        "`filter` holds for full pushes too, and for what is only at the remotes; the original makes no full push while a filter is on",
    );
    Some(FilterConfig {
        positions: places.iter().map(|at| problems.position(*at)).collect(),
        excludes,
        compiled,
    })
}

/// rsync gets names of us instead of walking itself, and asks its own rules only of these names.
pub(super) fn warn_of_rules_in_params(
    element: &PatternsXml,
    mirrors: &[MirrorConfig],
    problems: &mut Problems<'_>,
) {
    let mut remotes = mirrors.iter().flat_map(|mirror| &mirror.remotes);
    if remotes.any(|remote| remote.params.filtered()) {
        problems.warning(
            element.switch.at,
            "with `filter` on, a rule in `params` that excludes a directory does not hide what is in it; write it as an expression of `filter`",
        );
    }
}
