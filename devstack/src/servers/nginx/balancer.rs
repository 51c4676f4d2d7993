//! The balancer in front of the fflow replicas: by turns at `/`, one replica each at `/r1`, `/r2` and so on.

use std::fmt::Write;

/// The balancer's settings; the defaults are those of the system that the service is put into.
#[derive(Clone, Debug)]
pub struct Balancer {
    /// The loopback ports of the replicas; the first serves under `/r1`, the second under `/r2` and so on.
    pub replicas: Vec<u16>,
    /// The longest request body, in bytes; a longer one gets 413 as HTML.
    pub body_limit: u64,
    /// How long nginx waits for a replica's answer, in seconds; then it answers 504.
    pub read_timeout: u64,
}

impl Balancer {
    /// With 1 MiB and 60 s.
    #[must_use]
    pub fn new(replicas: Vec<u16>) -> Self {
        Self { replicas, body_limit: 1024 * 1024, read_timeout: 60 }
    }

    /// The content of nginx's `http` block, for the port that the balancer listens on.
    ///
    /// A path at `/` must get the prefix of the replica whose turn it is, which nginx decides too late to
    /// write it into the path. So each turn goes to an inner server that knows its one replica. No request
    /// is ever sent twice.
    #[must_use]
    pub fn render(&self, port: u16) -> String {
        let mut text = self.settings();
        text.push_str("upstream by_turns {\n");
        for number in 1..=self.replicas.len() {
            let _ = writeln!(text, "    server unix:r{number}.sock max_fails=0;");
        }
        text.push_str("    keepalive 32;\n}\n");
        self.render_outer(port, &mut text);
        for (number, replica) in (1..).zip(&self.replicas) {
            let _ = write!(
                text,
                "server {{\n    listen unix:r{number}.sock;\n    \
                 location / {{ proxy_pass http://127.0.0.1:{replica}/r{number}/; }}\n}}\n"
            );
        }
        text
    }

    fn render_outer(&self, port: u16, text: &mut String) {
        let _ = writeln!(text, "server {{\n    listen 127.0.0.1:{port};");
        text.push_str("    location = /healthz { return 200; }\n");
        for (number, replica) in (1..).zip(&self.replicas) {
            let _ = writeln!(text, "    location /r{number}/ {{ proxy_pass http://127.0.0.1:{replica}; }}");
        }
        // The inner server's 504 has to come first, or the answer would depend on a race of two clocks.
        let _ = writeln!(
            text,
            "    location / {{ proxy_pass http://by_turns; proxy_read_timeout {}s; }}\n}}",
            self.read_timeout + 5
        );
    }

    fn settings(&self) -> String {
        format!(
            "client_max_body_size {limit};\n\
             client_body_buffer_size {limit};\n\
             proxy_http_version 1.1;\n\
             proxy_set_header Connection \"\";\n\
             proxy_set_header Host $http_host;\n\
             proxy_next_upstream off;\n\
             proxy_connect_timeout 5s;\n\
             proxy_send_timeout {timeout}s;\n\
             proxy_read_timeout {timeout}s;\n",
            limit = self.body_limit,
            timeout = self.read_timeout,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_replica_has_its_turn_and_its_prefix() {
        let text = Balancer::new(vec![21_001, 21_002]).render(21_000);
        for line in [
            "listen 127.0.0.1:21000;",
            "server unix:r1.sock max_fails=0;",
            "server unix:r2.sock max_fails=0;",
            "location /r1/ { proxy_pass http://127.0.0.1:21001; }",
            "location /r2/ { proxy_pass http://127.0.0.1:21002; }",
            "location / { proxy_pass http://127.0.0.1:21002/r2/; }",
            "client_max_body_size 1048576;",
            "proxy_read_timeout 60s;",
            "proxy_next_upstream off;",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
