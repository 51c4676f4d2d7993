//! What the settings promise: names, precedence, bounds, origins in errors, secrets kept.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use secrecy::ExposeSecret;

use super::*;

fn sources(env: &[(&str, &str)]) -> ConfigSources {
    let env = env.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    ConfigSources { file: None, env }
}

fn load(env: &[(&str, &str)]) -> Config {
    Config::load(sources(env)).expect("usable settings").0
}

fn refusal(env: &[(&str, &str)]) -> String {
    Config::load(sources(env)).expect_err("settings that must be refused").to_string()
}

fn file(text: &str) -> (tempfile::TempDir, ConfigSources) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("uploader.toml");
    std::fs::write(&path, text).unwrap();
    (dir, ConfigSources { file: Some(path), env: BTreeMap::new() })
}

/// The effective value of a key as the report shows it.
fn shown(config: &Config, key: &str) -> String {
    let report = config.report(&Provenance::default());
    let setting = report.settings.into_iter().find(|setting| setting.key == key).expect(key);
    setting.value.as_str().map_or_else(|| setting.value.to_string(), str::to_owned)
}

#[test]
fn the_defaults_are_usable_and_are_those_of_the_contract() {
    let config = load(&[]);
    assert_eq!(config.amqp.url.expose_secret(), "amqp://localhost/%2f");
    assert_eq!(config.amqp.reconnect_max, Duration::from_millis(5000));
    assert_eq!(config.amqp.upload_queue, "chunk-upload");
    assert_eq!(config.amqp.reply_queue, "chunk-reply");
    assert_eq!(config.amqp.exchange, "chunk-exchange");
    assert_eq!(config.database.url.expose_secret(), "postgresql://postgres:postgres@localhost:5432/retube");
    assert_eq!(config.redis.url.expose_secret(), "redis://localhost:6379/0");
    assert_eq!(config.fflow.base_url.as_str(), "http://localhost:4050/");
    assert_eq!(config.fflow.allowed, vec!["http://localhost:4050".parse::<Origin>().unwrap()]);
    assert!(!config.janitor.enabled);
    assert_eq!(config.janitor.interval, Duration::from_millis(600_000));
    assert_eq!(config.janitor.video_ttl, Duration::from_millis(3_600_000));
    assert_eq!(config.holder.base_url, None);
    assert_eq!(config.spool.max_bytes, SpoolLimit::VolumeShare(0.8));
    assert_eq!(config.feed.strike_waits, vec![Duration::from_secs(30), Duration::from_secs(120)]);
    assert!(!config.replica.name.is_empty());
}

#[test]
fn every_name_of_the_contract_reaches_its_setting() {
    let table = [
        ("AMQP_CONNECTION_STRING", "amqp://mq:1/v", "amqp.url", "amqp://mq:1/v"),
        ("AMQP_CONNECTION_POLLING_TIME", "1500", "amqp.reconnect_max", "1s500ms"),
        ("CHUNK_UPLOAD_AMQP_QUEUE", "up", "amqp.upload_queue", "up"),
        ("CHUNK_REPLY_AMQP_QUEUE", "down", "amqp.reply_queue", "down"),
        ("CHUNK_REPLY_AMQP_EXCHANGE", "17", "amqp.exchange", "17"),
        ("CHUNK_UPLOAD_AMQP_EXCHANGE", "ex", "amqp.exchange", "ex"),
        ("DB_CONNECTION_STRING", "postgresql://db/x", "database.url", "postgresql://postgres:***@db/x"),
        ("DB_USERNAME", "ann", "database.url", "postgresql://ann:***@localhost:5432/retube"),
        ("FFLOW_CACHE_HOST", "cache", "redis.url", "redis://cache:6379/0"),
        ("FFLOW_CACHE_PORT", "7000", "redis.url", "redis://localhost:7000/0"),
        ("FFLOW_CACHE_DB", "3", "redis.url", "redis://localhost:6379/3"),
        ("FFLOW_CACHE_URL", "rediss://:pw@c/2", "redis.url", "rediss://:***@c/2"),
        ("FFLOW_BASE_URL", "http://farm/x", "fflow.base_url", "http://farm/x"),
        ("SCHEDULER_CLEAR_UPLOAD_RESOURCES_ENABLED", "TRUE", "janitor.enabled", "true"),
        ("SCHEDULER_CLEAR_UPLOAD_RESOURCES_SLEEP_TIME", "250", "janitor.interval", "250ms"),
        ("VIDEO_TTL", "90000", "janitor.video_ttl", "1m30s"),
        ("UPLOADER_SPOOL_DIR", "/spool", "spool.dir", "/spool"),
        ("UPLOADER_SPOOL_MAX_BYTES", "10GiB", "spool.max_bytes", "10GiB"),
        ("UPLOADER_HTTP_ADDR", "0.0.0.0:80", "http.addr", "0.0.0.0:80"),
        ("UPLOADER_HOLDER_BASE_URL", "http://h:1", "holder.base_url", "http://h:1/"),
        ("UPLOADER_FFLOW_ALLOWED", "http://A, https://b:9", "fflow.allowed", "http://a:80,https://b:9"),
        ("UPLOADER_PREFETCH", "7", "amqp.prefetch", "7"),
        ("UPLOADER_AMQP_PREFETCH", "7", "amqp.prefetch", "7"),
        ("UPLOADER_INFLIGHT_BYTES", "104857600", "amqp.inflight_bytes", "100MiB"),
        ("UPLOADER_FEED_STRIKE_WAITS", "1s, 2s,3s", "feed.strike_waits", "1s,2s,3s"),
        ("UPLOADER_PUSH_RATE", "1MiB/s", "feed.push_rate", "1MiB"),
        ("UPLOADER_REPLICA_NAME", "42", "replica.name", "42"),
        ("UPLOADER_LOG_FORMAT", "json", "log.format", "json"),
        ("UPLOADER_LOG_FILTER", "warn,uploader_v4=debug", "log.filter", "warn,uploader_v4=debug"),
    ];
    for (variable, value, key, expected) in table {
        assert_eq!(shown(&load(&[(variable, value)]), key), expected, "{variable}");
    }
}

#[test]
fn every_key_has_a_variable_and_its_comment_names_it() {
    let known = layers::gather(&ConfigSources::default(), &mut Vec::new()).1;
    for key in known {
        let regular = format!("UPLOADER_{}", key.replace('.', "_").to_uppercase());
        let refused = Config::load(sources(&[(&regular, "?")])).err().map(|error| error.to_string());
        let variable = refused.as_ref().and_then(|text| text.split("did you mean ").nth(1));
        let variable = variable.and_then(|text| text.split('?').next()).unwrap_or(&regular);
        assert!(layers::DEFAULTS.contains(variable), "{variable}");
    }
}

#[test]
fn the_default_vhost_has_two_spellings_and_others_stay() {
    let url = |text| load(&[("AMQP_CONNECTION_STRING", text)]).amqp.url.expose_secret().to_owned();
    assert_eq!(url("amqp://host"), "amqp://host/%2f");
    assert_eq!(url("amqp://host/"), "amqp://host/%2f");
    assert_eq!(url("amqp://u:p@host:5673/%2F"), "amqp://u:p@host:5673/%2F");
    assert_eq!(url("amqps://host/video"), "amqps://host/video");
}

#[test]
fn database_credentials_come_from_the_address_or_from_their_settings() {
    let url = |env: &[(&str, &str)]| load(env).database.url.expose_secret().to_owned();
    let name = "DB_CONNECTION_STRING";
    assert_eq!(url(&[(name, "postgres://a:b@h/d"), ("DB_PASSWORD", "c")]), "postgresql://a:b@h/d");
    assert_eq!(url(&[(name, "jdbc:postgresql://h:1/d?user=a&password=b")]), "postgresql://a:b@h:1/d");
    assert_eq!(url(&[(name, "postgresql://a@h/d")]), "postgresql://a@h/d");
    assert_eq!(url(&[(name, "postgresql://a@h/d"), ("DB_PASSWORD", "c")]), "postgresql://a:c@h/d");
    assert_eq!(
        url(&[(name, "postgresql://h/d"), ("DB_PASSWORD", "p@/:%+")]),
        "postgresql://postgres:p%40%2F%3A%25+@h/d"
    );
    assert_eq!(url(&[(name, "postgresql://h/d"), ("DB_PASSWORD", "")]), "postgresql://postgres@h/d");
    assert_eq!(url(&[(name, "postgresql://a%40b@h/d"), ("DB_PASSWORD", "c")]), "postgresql://a%40b:c@h/d");
    assert_eq!(
        url(&[(name, "jdbc:postgresql://u:p@h/d?sslmode=require")]),
        "postgresql://u:p@h/d?sslmode=require"
    );
}

#[test]
fn a_parameter_that_only_jdbc_knows_is_left_out_with_a_note() {
    let env = [("DB_CONNECTION_STRING", "jdbc:postgresql://u:p@h/d?currentSchema=public")];
    let (config, provenance) = Config::load(sources(&env)).unwrap();
    assert_eq!(config.database.url.expose_secret(), "postgresql://u:p@h/d");
    assert!(provenance.notes()[0].contains("currentSchema"));
}

#[test]
fn a_database_is_checked_as_its_address_says_and_a_misspelt_mode_is_refused() {
    let name = "DB_CONNECTION_STRING";
    let url = |query: &str| {
        let address = format!("jdbc:postgresql://u:p@h/d{query}");
        load(&[(name, &address)]).database.url.expose_secret().to_owned()
    };
    assert_eq!(url(""), "postgresql://u:p@h/d");
    assert_eq!(url("?ssl=true"), "postgresql://u:p@h/d?sslmode=verify-full");
    assert_eq!(url("?ssl=false"), "postgresql://u:p@h/d");
    assert_eq!(url("?ssl=true&sslmode=verify-ca"), "postgresql://u:p@h/d?sslmode=verify-ca");
    let text = refusal(&[(name, "postgresql://u:hunter2@h/d?sslmode=verify_full")]);
    assert!(text.contains("verify-full") && !text.contains("hunter2"), "{text}");
    let text = refusal(&[(name, "postgresql://u:hunter2@h/d?sslmode=verify-full&sslrootcert=/nowhere")]);
    assert!(text.contains("sslrootcert: /nowhere cannot be read") && !text.contains("hunter2"), "{text}");
}

#[test]
fn a_file_of_authorities_must_hold_some() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca.pem");
    let name = "UPLOADER_TLS_CA_FILE";
    let refused = |content: &[u8]| {
        std::fs::write(&path, content).unwrap();
        refusal(&[(name, path.to_str().unwrap())])
    };
    assert!(
        refusal(&[(name, "/nowhere")])
            .contains("tls.ca_file (from environment variable UPLOADER_TLS_CA_FILE)")
    );
    assert!(refused(b"").contains("holds no certificate"));
    assert!(
        refused(b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n").contains("is no PEM file")
    );
    let no_certificate = b"-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
    assert!(refused(no_certificate).contains("bad certificate"));
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(&path, key.cert.pem()).unwrap();
    let config = load(&[(name, path.to_str().unwrap())]);
    assert_eq!(config.redis.trust.roots().len(), 1);
    assert!(load(&[]).redis.trust.roots().is_empty());
}

#[test]
fn the_environment_wins_over_the_file_and_the_file_over_the_defaults() {
    let (_dir, mut sources) = file("[feed]\nmax_feeds = 5\nsweep = \"2s\"\n[spool]\nmax_bytes = 104857600\n");
    sources.env.insert("UPLOADER_FEED_SWEEP".into(), "3s".into());
    let path = sources.file.clone().unwrap();
    let (config, provenance) = Config::load(sources).unwrap();
    assert_eq!((config.feed.max_feeds, config.feed.sweep), (5, Duration::from_secs(3)));
    assert_eq!(config.spool.max_bytes, SpoolLimit::Bytes(100 << 20));
    assert_eq!(provenance.of("feed.max_feeds"), format!("file {}", path.display()));
    assert_eq!(provenance.of("feed.sweep"), "environment variable UPLOADER_FEED_SWEEP");
    assert_eq!(provenance.of("feed.idle"), "built-in default");
    assert_eq!(provenance.of("replica.name"), "the host's name");
}

#[test]
fn the_environment_may_name_the_file() {
    let (_dir, sources) = file("[janitor]\nvideo_ttl = \"2h\"\n");
    let path = sources.file.unwrap().display().to_string();
    let config = load(&[("UPLOADER_CONFIG", &path)]);
    assert_eq!(config.janitor.video_ttl, Duration::from_secs(7200));
    let missing = refusal(&[("UPLOADER_CONFIG", "/nowhere/uploader.toml")]);
    assert!(missing.contains("/nowhere/uploader.toml") && missing.contains("cannot be read"), "{missing}");
}

#[test]
fn unknown_keys_are_refused_with_a_near_match() {
    let text = refusal(&[("UPLOADER_SPOOL_DIRS", "/x"), ("SPOOL_DIR", "ignored")]);
    assert!(
        text.contains("UPLOADER_SPOOL_DIRS") && text.contains("did you mean UPLOADER_SPOOL_DIR?"),
        "{text}"
    );
    let text = refusal(&[("UPLOADER_AMQP_URL", "amqp://x")]);
    assert!(text.contains("did you mean AMQP_CONNECTION_STRING?"), "{text}");
    let (_dir, sources) = file("[feed]\nmax_feed = 5\n[extra]\nx = 1\n");
    let text = Config::load(sources).unwrap_err().to_string();
    assert!(
        text.contains("feed.max_feed (from file ") && text.contains("did you mean feed.max_feeds?"),
        "{text}"
    );
    assert!(text.contains("extra.x"), "{text}");
}

#[test]
fn a_file_that_is_no_toml_is_refused_with_its_line_but_not_its_text() {
    let (_dir, sources) = file("[amqp]\nurl = \"amqp://u:hidden@h\" oops\n");
    let text = Config::load(sources).unwrap_err().to_string();
    assert!(text.contains("uploader.toml") && text.contains("line 2") && !text.contains("hidden"), "{text}");
}

#[test]
fn two_names_of_one_setting_must_agree() {
    let both = [("CHUNK_UPLOAD_AMQP_EXCHANGE", "a"), ("CHUNK_REPLY_AMQP_EXCHANGE", "a")];
    assert_eq!(load(&both).amqp.exchange, "a");
    let text = refusal(&[("CHUNK_UPLOAD_AMQP_EXCHANGE", "a"), ("CHUNK_REPLY_AMQP_EXCHANGE", "b")]);
    assert!(
        text.contains("CHUNK_UPLOAD_AMQP_EXCHANGE") && text.contains("CHUNK_REPLY_AMQP_EXCHANGE"),
        "{text}"
    );
}

#[test]
fn every_secret_may_come_from_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let table = [
        ("AMQP_CONNECTION_STRING", "amqp://u:p@h/v", "amqp.url"),
        ("DB_CONNECTION_STRING", "postgresql://u:p@h/d", "database.url"),
        ("DB_PASSWORD", "secret", "database.url"),
        ("FFLOW_CACHE_URL", "redis://:p@h/1", "redis.url"),
    ];
    for (variable, value, key) in table {
        let path = dir.path().join(variable).display().to_string();
        std::fs::write(&path, format!("{value}\n")).unwrap();
        let name = format!("{variable}_FILE");
        let (config, provenance) = Config::load(sources(&[(&name, &path)])).unwrap();
        assert_eq!(shown(&config, key), shown(&load(&[(variable, value)]), key));
        assert!(provenance.of(key).contains(&name), "{}", provenance.of(key));
        let text = refusal(&[(&name, &path), (variable, value)]);
        assert!(text.contains("set only one") && !text.contains("secret"), "{text}");
        for (unreadable, why) in
            [("/nowhere", "No such file"), ("/", "directory"), ("/dev/zero", "longer than")]
        {
            let text = refusal(&[(&name, unreadable)]);
            assert!(text.contains(&name) && text.contains(why), "{text}");
        }
    }
}

#[test]
fn an_error_names_key_origin_and_expectation() {
    let table = [
        ("UPLOADER_FEED_SWEEP", "soon", "feed.sweep", "a duration with its unit"),
        ("UPLOADER_FEED_SWEEP", "5", "feed.sweep", "a duration with its unit"),
        ("UPLOADER_CHUNK_MAX_BYTES", "10 apples", "chunk.max_bytes", "a size such as"),
        ("UPLOADER_AMQP_PREFETCH", "many", "amqp.prefetch", "a whole number from 0 to 65535"),
        ("UPLOADER_AMQP_PREFETCH", "70000", "amqp.prefetch", "a whole number from 0 to 65535"),
        ("UPLOADER_AMQP_DURABLE", "maybe", "amqp.durable", "true or false"),
        ("UPLOADER_SPOOL_MAX_BYTES", "120%", "spool.max_bytes", "a share of the volume"),
        ("UPLOADER_FFLOW_ALLOWED", "http://a/path", "fflow.allowed", "origins such as"),
        ("UPLOADER_HOLDER_BASE_URL", "ftp://h", "holder.base_url", "http or https"),
        ("FFLOW_BASE_URL", "http://u:p@h", "fflow.base_url", "without credentials"),
        ("UPLOADER_HTTP_ADDR", "8080", "http.addr", "an IP address with its port"),
        ("UPLOADER_LOG_FORMAT", "xml", "log.format", "\"text\" or \"json\""),
        ("VIDEO_TTL", "1h", "janitor.video_ttl", "a whole number of milliseconds"),
        ("AMQP_CONNECTION_POLLING_TIME", "-1", "amqp.reconnect_max", "a whole number of milliseconds"),
        ("FFLOW_CACHE_PORT", "x", "redis.port", "a whole number from 0 to 65535"),
        ("FFLOW_CACHE_PORT", "0", "redis.port", "1 to 65535"),
        ("FFLOW_CACHE_URL", "http://h", "redis.url", "redis://"),
        ("DB_CONNECTION_STRING", "mysql://h/d", "database.url", "postgresql://"),
        ("DB_CONNECTION_STRING", "postgresql://h", "database.url", "/database"),
        ("AMQP_CONNECTION_STRING", "http://h", "amqp.url", "amqp://"),
    ];
    for (variable, value, key, expectation) in table {
        let text = refusal(&[(variable, value)]);
        for part in [key, variable, expectation] {
            assert!(text.contains(part), "{variable}={value}: {text}");
        }
    }
}

#[test]
// A table: splitting it would hide a missing row.
#[allow(clippy::too_many_lines)]
fn every_bound_holds() {
    let outside = [
        ("AMQP_CONNECTION_POLLING_TIME", "99,600001"),
        ("CHUNK_UPLOAD_AMQP_QUEUE", ",chunk-reply"),
        ("CHUNK_REPLY_AMQP_QUEUE", ""),
        ("CHUNK_REPLY_AMQP_EXCHANGE", ""),
        ("UPLOADER_AMQP_HEARTBEAT", "0s,301s,1500ms"),
        ("UPLOADER_AMQP_PREFETCH", "0"),
        ("UPLOADER_AMQP_INFLIGHT_BYTES", "9MiB,2048TiB"),
        ("UPLOADER_AMQP_REPLY_EXPIRATION", "999ms,61m"),
        ("UPLOADER_AMQP_BLOCKED_GRACE", "999ms,11m"),
        ("UPLOADER_AMQP_KEPT_REPLIES", "0,1000001"),
        ("UPLOADER_DATABASE_POOL", "1,101"),
        ("UPLOADER_DATABASE_CONNECT_TIMEOUT", "99ms,61s"),
        ("UPLOADER_DATABASE_STATEMENT_TIMEOUT", "99ms,301s,500ms"),
        ("UPLOADER_DATABASE_LOCK_TIMEOUT", "9ms,61s,11s"),
        ("UPLOADER_DATABASE_IDLE_IN_TRANSACTION_TIMEOUT", "99ms,301s"),
        ("UPLOADER_REDIS_RESPONSE_TIMEOUT", "9ms,11s"),
        ("UPLOADER_REDIS_ROUTE_TTL", "59s,31d"),
        ("UPLOADER_FFLOW_CREATE_TIMEOUT", "99ms,301s"),
        ("UPLOADER_FFLOW_PUSH_TIMEOUT", "99ms,601s"),
        ("UPLOADER_FFLOW_FINISH_TIMEOUT", "999ms,61m"),
        ("UPLOADER_FFLOW_DELETE_TIMEOUT", "99ms,61s"),
        ("UPLOADER_FFLOW_BODY_LIMIT", "1023B,2MiB"),
        ("UPLOADER_FFLOW_REFUSED_PAUSE", "999ms,61m"),
        ("UPLOADER_HOLDER_TIMEOUT", "99ms,61s"),
        ("UPLOADER_HOLDER_POLL", "99ms,301s"),
        ("UPLOADER_CHUNK_MAX_BYTES", "0,129MiB"),
        ("UPLOADER_CHUNK_DEADLINE", "999ms,11m,29s"),
        ("UPLOADER_CHUNK_REORDER_WAIT", "46s"),
        ("UPLOADER_CHUNK_REORDER_POLL", "9ms,11s"),
        ("UPLOADER_CHUNK_REORDER_PER_SESSION", "1001"),
        ("UPLOADER_CHUNK_REORDER_WINDOW_CHUNKS", "1001"),
        ("UPLOADER_SPOOL_DIR", ""),
        ("UPLOADER_SPOOL_MAX_BYTES", "9MiB,0%"),
        ("UPLOADER_SPOOL_READ_RETRY", "301s"),
        ("UPLOADER_FEED_MAX_FEEDS", "0,100001"),
        ("UPLOADER_FEED_START_BYTES", "0,2GiB"),
        ("UPLOADER_FEED_PUSH_BLOCK", "1023B,1MiB"),
        ("UPLOADER_FEED_PUSH_LINGER", "6s"),
        ("UPLOADER_FEED_PUSH_RATE", "63KiB,2GiB"),
        ("UPLOADER_FEED_REPLAYS", "0,1001"),
        ("UPLOADER_FEED_MAX_STRIKES", "0,101"),
        ("UPLOADER_FEED_STRIKE_SPAN", "999ms,31d"),
        ("UPLOADER_FEED_IDLE", "999ms,61m,11m"),
        ("UPLOADER_FEED_FLOW_IDLE", "59s,25h"),
        ("UPLOADER_FEED_FINISH_BASE", "999ms,25h"),
        ("UPLOADER_FEED_FINISH_RATE", "1023B,2GiB"),
        ("UPLOADER_FEED_FINISH_GRACE", "999ms,25h"),
        ("UPLOADER_FEED_ADVANCE_POLL", "9ms,11s"),
        ("UPLOADER_FEED_SWEEP", "49ms,61s"),
        ("UPLOADER_FEED_BACKOFF_MIN", "9ms,31s"),
        ("UPLOADER_FEED_BACKOFF_MAX", "199ms,61m"),
        ("UPLOADER_FEED_STRAY_INTERVAL", "99ms,25h"),
        ("UPLOADER_FEED_STRAY_MAX_AGE", "59s,31d"),
        ("UPLOADER_REPLICA_LEASE", "999ms,11m,10s"),
        ("UPLOADER_REPLICA_HEARTBEAT", "99ms,7500ms"),
        ("UPLOADER_REPLICA_SHUTDOWN_DEADLINE", "99ms,11m,6s"),
        ("UPLOADER_REPLICA_SHUTDOWN_SETTLE", "6s"),
        ("UPLOADER_REPLICA_SHUTDOWN_RELEASE", "5s"),
        ("SCHEDULER_CLEAR_UPLOAD_RESOURCES_SLEEP_TIME", "99,86400001"),
        ("VIDEO_TTL", "999,31536000001"),
        ("UPLOADER_JANITOR_TOMBSTONE_TTL", "59s,366d"),
        ("UPLOADER_JANITOR_BATCH", "0,10001"),
        ("UPLOADER_LOG_FILTER", "a=b=c"),
    ];
    for (variable, values) in outside {
        for value in values.split(',') {
            let text = refusal(&[(variable, value)]);
            assert!(text.contains("expected") && text.contains("found"), "{variable}={value}: {text}");
        }
    }
    for waits in ["2h", "1s,1s,1s,1s,1s,1s,1s,1s,1s,1s,1s"] {
        assert!(refusal(&[("UPLOADER_FEED_STRIKE_WAITS", waits)]).contains("feed.strike_waits"));
    }
}

#[test]
fn no_secret_appears_in_debug_report_or_error() {
    let env = [
        ("AMQP_CONNECTION_STRING", "amqp://u:hush@h/v"),
        ("DB_CONNECTION_STRING", "postgresql://h/d?sslmode=prefer"),
        ("DB_PASSWORD", "hush"),
        ("FFLOW_CACHE_URL", "redis://u:hush@h/1"),
    ];
    let (config, provenance) = Config::load(sources(&env)).unwrap();
    let report = config.report(&provenance);
    let lines = report.to_string();
    let texts = [format!("{config:?}"), lines.clone(), serde_json::to_string(&report).unwrap()];
    for text in texts {
        assert!(!text.contains("hush"), "{text}");
    }
    assert!(lines.contains("amqp.url = \"amqp://u:***@h/v\""), "{lines}");
    assert!(lines.contains("# from environment variable AMQP_CONNECTION_STRING"), "{lines}");
    for (variable, value) in [
        ("AMQP_CONNECTION_STRING", "http://u:hush@h"),
        ("DB_CONNECTION_STRING", "hush"),
        ("FFLOW_CACHE_URL", "hush://hush"),
    ] {
        assert!(!refusal(&[(variable, value)]).contains("hush"));
    }
    let (_dir, sources) = file("[database]\npassword = [\"hush\"]\n[redis]\nurl = 5\n");
    let text = Config::load(sources).unwrap_err().to_string();
    assert!(text.contains("database.password") && !text.contains("hush"), "{text}");
}

#[test]
fn dev_toml_holds_differences_only_and_loads() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config/dev.toml");
    let (config, provenance) =
        Config::load(ConfigSources { file: Some(path), env: BTreeMap::new() }).unwrap();
    assert_eq!(config.spool.dir, PathBuf::from("target/dev/spool"));
    assert_eq!(provenance.of("feed.sweep"), "built-in default");
}

#[test]
fn an_origin_is_scheme_host_and_port() {
    let origin: Origin = "http://fflow".parse().unwrap();
    assert_eq!(origin.to_string(), "http://fflow:80");
    assert!(origin.matches(&url::Url::parse("http://FFLOW:80/r2/name").unwrap()));
    assert!(!origin.matches(&url::Url::parse("https://fflow/r2/name").unwrap()));
    assert!(!origin.matches(&url::Url::parse("http://fflow:81/").unwrap()));
}
