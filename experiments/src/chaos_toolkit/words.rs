//! `arguments` of a process that are one text: the words that a shell would make of it, without a shell.

/// The words, quotes taken away as sh(1) does it. A character on which a shell would act is an error: there is no shell.
/// `names`: `${name}` is the format's own and may still stand there.
pub fn words(text: &str, names: bool) -> Result<Vec<String>, char> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some('\'') => break,
                        Some(c) => word.push(c),
                        None => return Err('\''),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some('"') => break,
                        Some('\\') => match chars.next() {
                            Some(c @ ('$' | '`' | '"' | '\\')) => word.push(c),
                            Some('\n') => {}
                            Some(c) => word.extend(['\\', c]),
                            None => return Err('"'),
                        },
                        Some('$') if names && chars.peek() == Some(&'{') => word.push('$'),
                        Some(c @ ('$' | '`')) => return Err(c),
                        Some(c) => word.push(c),
                        None => return Err('"'),
                    }
                }
            }
            '\\' => match chars.next() {
                Some('\n') => {}
                Some(c) => word.get_or_insert_default().push(c),
                None => return Err('\\'),
            },
            '$' if names && chars.peek() == Some(&'{') => {
                let word = word.get_or_insert_default();
                word.push('$');
                while let Some(c) = chars.next_if(|_| !word.ends_with('}')) {
                    word.push(c);
                }
            }
            '#' if word.is_none() => return Err(c),
            '$' | '`' | '|' | '&' | ';' | '<' | '>' | '(' | ')' | '*' | '?' | '[' | '~' | '\n' => return Err(c),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_backslashes_are_those_of_a_shell() {
        let text = r#"-a 'b  c' "d \"e\" \n" f\ g '' h"i"'j' "#;
        assert_eq!(words(text, false).unwrap(), ["-a", "b  c", r#"d "e" \n"#, "f g", "", "hij"]);
        assert!(words("", false).unwrap().is_empty());
    }

    #[test]
    fn what_needs_a_shell_is_named_and_nothing_is_guessed() {
        let open = [
            ("a | b", '|'),
            ("$HOME", '$'),
            ("\"$HOME\"", '$'),
            ("a; b", ';'),
            ("*.c", '*'),
            ("# x", '#'),
            ("'a", '\''),
        ];
        for (text, blamed) in open {
            assert_eq!(words(text, true), Err(blamed), "{text}");
        }
        assert_eq!(words("'a | b' a#b \\;", false).unwrap(), ["a | b", "a#b", ";"]);
    }

    #[test]
    fn names_of_the_format_stay_until_they_are_replaced() {
        assert_eq!(words("-p ${port} \"${a b}\"", true).unwrap(), ["-p", "${port}", "${a b}"]);
        assert_eq!(words("-p ${port}", false), Err('$'));
    }
}
