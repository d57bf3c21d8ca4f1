//! Who is in each set of a program, from what all rows answer.

use trommel_decide::policy::number_at;

use crate::SelectError;
use crate::apportion::{Apportioned, Weights, apportion};
use crate::bits::Bits;
use crate::pick::{Quota, pick};
use crate::program::{Node, Program};
use crate::scan::Scanned;
use crate::shortfall::{ExactNumber, Remarks, shortfalls};

/// An exact number, as its node has it.
struct Exact {
    node: usize,
    count: u64,
    label: Option<usize>,
    by: Option<usize>,
    of: Option<usize>,
}

/// A set of some others, from the left.
fn each<'s>(
    parts: &[usize],
    of: impl Fn(usize) -> Result<&'s Bits, SelectError>,
    with: impl Fn(&Bits, &Bits) -> Bits,
) -> Result<Bits, SelectError> {
    let mut all: Option<Bits> = None;
    for &part in parts {
        let part = of(part)?;
        all = Some(all.map_or_else(|| part.clone(), |all| with(&all, part)));
    }
    Ok(all.unwrap_or_default())
}

/// Each node's set, and what is to be said of some; sets that nobody needs any more are gone.
pub(crate) fn resolve(
    program: &Program,
    scanned: Scanned,
    counter_bytes: u64,
) -> Result<(Vec<Option<Bits>>, Remarks), SelectError> {
    let Scanned { judged, predicates, orders, labels, .. } = scanned;
    let mut predicates: Vec<Option<Bits>> = predicates.into_iter().map(Some).collect();
    let mut sets: Vec<Option<Bits>> = vec![None; program.nodes.len()];
    let mut remarks = Remarks::new();
    let mut last = vec![usize::MAX; program.nodes.len()];
    for (at, node) in program.nodes.iter().enumerate() {
        node.parts().into_iter().for_each(|part| last[part] = at);
    }
    program.wanted.iter().for_each(|&node| last[node] = usize::MAX);
    let lost = || SelectError::Input("a set is gone before its time; this is a bug".into());
    for at in 0..program.nodes.len() {
        let of = |part: usize| sets[part].as_ref().ok_or_else(lost);
        let set = match &program.nodes[at] {
            Node::Predicate(number) => Some(predicates[*number].take().ok_or_else(lost)?),
            Node::Not(a) => Some(of(*a)?.not(&judged)),
            Node::And(parts) => Some(each(parts, of, |all, part| all.and(part))?),
            Node::Or(parts) => Some(each(parts, of, |all, part| all.or(part))?),
            Node::Minus(parts) => Some(each(parts, of, |all, part| part.not(all))?),
            Node::First { order, .. } if sets[at].is_none() => {
                // Whoever counts in the same order of what is known by now is counted in the same passes.
                let known = |of: &Option<usize>| of.is_none_or(|of| sets[of].is_some());
                let together: Vec<Exact> = (at..program.nodes.len())
                    .filter_map(|node| match &program.nodes[node] {
                        Node::First { count, order: other, label, by, of } if other == order && known(of) => {
                            Some(Exact { node, count: *count, label: *label, by: *by, of: *of })
                        }
                        _ => None,
                    })
                    .collect();
                let (places, has) = &orders[*order];
                let of: Vec<Bits> = together
                    .iter()
                    .map(|it| it.of.and_then(|of| sets[of].as_ref()).unwrap_or(&judged).and(has))
                    .collect();
                let column = |order: usize| program.orders[order].rule.policy().column();
                let apportioned: Vec<Option<Apportioned>> = (together.iter().zip(&of))
                    .map(|(it, of)| {
                        let Some((label, by)) = it.label.zip(it.by) else { return Ok(None) };
                        let weights = Weights {
                            groups: (&labels[label].0, labels[label].1),
                            places: (&orders[by].0, &orders[by].1),
                            number: number_at,
                            columns: (&program.labels[label], column(by).unwrap_or_default()),
                        };
                        apportion(it.count, of, weights, counter_bytes).map(Some)
                    })
                    .collect::<Result<_, SelectError>>()?;
                let quotas: Vec<Quota<'_>> = together
                    .iter()
                    .zip(of.iter().zip(&apportioned))
                    .map(|(it, (of, apportioned))| Quota {
                        count: it.count,
                        counts: apportioned.as_ref().map(|apportioned| apportioned.counts.as_slice()),
                        of,
                        groups: it.label.map(|label| (&labels[label].0, labels[label].1)),
                    })
                    .collect();
                let picked = pick(places, &quotas, counter_bytes)?;
                let asked: Vec<ExactNumber<'_>> = (together.iter().zip(&apportioned).zip(quotas.iter().zip(&picked)))
                    .map(|((it, apportioned), (quota, picked))| ExactNumber {
                        text: program.exact.get(&it.node).map_or("", String::as_str),
                        column: column(*order),
                        per: it.label.map(|label| program.labels[label].as_str()),
                        apportioned: it.by.and_then(column).zip(apportioned.as_ref()),
                        asked_of: it.of.and_then(|of| sets[of].as_ref()).unwrap_or(&judged),
                        quota,
                        lack: picked.lack,
                    })
                    .collect();
                for (it, said) in together.iter().zip(shortfalls(&asked, &judged)?) {
                    remarks.extend(said.map(|said| (it.node, said)));
                }
                drop(asked);
                for (it, picked) in together.iter().zip(picked) {
                    sets[it.node] = Some(picked.rows);
                }
                None
            }
            Node::First { .. } => None,
        };
        if set.is_some() {
            sets[at] = set;
        }
        for part in program.nodes[at].parts().into_iter().filter(|&part| last[part] == at) {
            sets[part] = None;
        }
    }
    Ok((sets, remarks))
}
