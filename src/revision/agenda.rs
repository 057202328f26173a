//! Which principle comes next.

use crate::policy::Principle;

/// The principle of the next round, once no rule objects any longer: one that was not looked at yet. The same request
/// gets the same order, and over many requests each principle comes as often as any other.
pub fn next_principle(principles: &[Principle], used: &[usize], request_id: &str) -> Option<usize> {
    let unused = (0..principles.len()).filter(|index| !used.contains(index));
    unused.min_by_key(|index| {
        let mut hasher = blake3::Hasher::new_derive_key("wardline revision principle v1");
        hasher.update(request_id.as_bytes()).update(&[0]).update(principles[*index].id.as_bytes());
        *hasher.finalize().as_bytes()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn principles(ids: &[&str]) -> Vec<Principle> {
        let text = String::new;
        ids.iter().map(|id| Principle { id: (*id).into(), text: text(), critique: text(), revision: text() }).collect()
    }

    #[test]
    fn every_principle_has_its_turn_once_and_in_an_order_of_the_requests_own() {
        let all = principles(&["a", "b", "c", "d"]);
        let mut firsts = [0; 4];
        for request in 0..400 {
            let id = format!("req_{request}");
            let mut used = vec![1];
            while let Some(next) = next_principle(&all, &used, &id) {
                assert_eq!(next_principle(&all, &used, &id), Some(next));
                used.push(next);
            }
            firsts[used[1]] += 1;
            used.sort_unstable();
            assert_eq!(used, [0, 1, 2, 3]);
        }
        // Expected 133 each; more than 5 standard deviations off is a mistake.
        assert!(firsts[1] == 0 && [0, 2, 3].iter().all(|at| (85..180).contains(&firsts[*at])), "{firsts:?}");
    }
}
