//! "Did you mean": the nearest of the known words.

/// The known word nearest to `word`, when it is near enough to be what was meant.
pub fn closest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    known
        .into_iter()
        .map(|candidate| {
            (
                strsim::jaro_winkler(&lower, &candidate.to_lowercase()),
                candidate,
            )
        })
        // Below 0.8 Jaro-Winkler offers words that share little but a first letter.
        .filter(|(likeness, _)| *likeness >= 0.8)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_or_none() {
        let known = ["image", "ingress", "id"];
        assert_eq!(closest("immage", known), Some("image"));
        assert_eq!(closest("ingres", known), Some("ingress"));
        assert_eq!(closest("volume", known), None);
    }
}
