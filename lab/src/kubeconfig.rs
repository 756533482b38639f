//! The kubeconfig for inside the lab: the administrator's, with the address that can be reached there.

/// `text` with another server URL. `None` when it does not name exactly one: it is being written, or not the server's.
pub fn with_server(text: &str, url: &str) -> Option<String> {
    let mut found = 0;
    let mut out = String::with_capacity(text.len() + url.len());
    for line in text.lines() {
        // As a field of its own or the first of a list's item.
        let field = line.trim_start_matches([' ', '-']);
        if field.starts_with("server:") {
            found += 1;
            out.push_str(line.get(..line.len() - field.len())?);
            out.push_str("server: ");
            out.push_str(url);
        } else {
            out.push_str(line);
        }
        out.push('\n');
    }
    (found == 1).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_server_changes() {
        let text = "clusters:\n- cluster:\n    certificate-authority-data: c2VydmVyOg==\n    server: https://127.0.0.1:6443\n  name: a\n";
        assert_eq!(with_server(text, "https://172.31.255.1:6443").unwrap(), text.replace("127.0.0.1", "172.31.255.1"));
    }

    #[test]
    fn a_file_that_is_not_whole_is_not_used() {
        assert_eq!(with_server("", "https://x"), None);
        assert_eq!(with_server("server: a\nserver: b\n", "https://x"), None);
    }
}
