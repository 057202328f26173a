use super::{SOUND, checked};

#[test]
fn a_mistake_in_a_condition_is_pointed_at_inside_of_it() {
    let with = |when: &str| SOUND.replacen("    action: block\n", &format!("    action: block\n{when}"), 1);
    for (when, place, snippet) in [
        (
            "    when: stage == \"input\" && orign == \"user\"\n",
            "policies/default.yaml:19:31: rules[0].when: unknown name `orign`",
            "   |\n19 |     when: stage == \"input\" && orign == \"user\"\n   |                               ^^^^^\n",
        ),
        (
            "    when: 'tenant == \"acma\"'\n",
            "policies/default.yaml:19:22: rules[0].when: unknown tenant `acma`",
            "   |\n19 |     when: 'tenant == \"acma\"'\n   |                      ^^^^^^\n",
        ),
        (
            "    when: |\n      stream &&\n      length\n",
            "policies/default.yaml:20:14: rules[0].when: `&&` does not go with",
            "   |\n20 |       stream &&\n   |              ^^\n",
        ),
        (
            "    when: |\n      stream ||\n      lenght > 3\n",
            "policies/default.yaml:21:7: rules[0].when: unknown name `lenght`",
            "   |\n21 |       lenght > 3\n   |       ^^^^^^\n",
        ),
        (
            "    when: stream)\n",
            "policies/default.yaml:19:17: rules[0].when: not a condition in CEL",
            "   |\n19 |     when: stream)\n   |                 ^\n",
        ),
    ] {
        let problems = checked(&with(when)).unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].to_string().starts_with(place), "{}", problems[0]);
        assert_eq!(problems[0].snippet.trim_start_matches(' '), snippet.trim_start_matches(' '), "{when}");
    }
    for (line, told) in [("sampling: 0", "expected a number from 0.0001 to 1"), ("sampling: 1.5", "from 0.0001 to 1")] {
        let problems = checked(&with(&format!("    {line}\n"))).unwrap_err();
        assert!(problems[0].message.contains(told), "{}", problems[0]);
    }
}
