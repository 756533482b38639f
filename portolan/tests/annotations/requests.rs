//! Listeners of layer 7: what happens to requests.

use serde_json::{Value, json};

use super::world::{At, CLIENT, Case, World, case, holds, pods};

const HTTP: (&str, &str) = ("protocol-port", "http:80");

pub fn cases() -> Vec<Case> {
    let secure: &[(&str, &str)] = &[("protocol-port", "https:80"), ("cert-id", "a-test")];
    let with = |more: &[(&'static str, &'static str)]| [secure, more].concat();
    vec![
        case("requests", &["protocol-port"], &[("protocol-port", "http:80,https:4443")], requests),
        case("secure", &["protocol-port", "cert-id", "http2-enabled"], secure, protected),
        case("no-http2", &["http2-enabled"], &with(&[("http2-enabled", "off")]), no_http2),
        case(
            "domains",
            &["domain-extensions"],
            &with(&[("domain-extensions", "b.test:b-test,*.c.test:c-test")]),
            domains,
        ),
        case(
            "modern",
            &["tls-cipher-policy"],
            &with(&[("tls-cipher-policy", "tls_cipher_policy_1_2_strict_with_1_3")]),
            modern,
        ),
        case("strict", &["tls-cipher-policy"], &with(&[("tls-cipher-policy", "tls_cipher_policy_1_2_strict")]), strict),
        case("idle", &["idle-timeout"], &[HTTP, ("idle-timeout", "2")], idle),
        case("not-idle", &["idle-timeout"], &[HTTP], not_idle),
        case("impatient", &["request-timeout"], &[HTTP, ("request-timeout", "1")], impatient),
        case("patient", &["request-timeout"], &[HTTP], patient),
        case(
            "redirected",
            &["forward-port"],
            &[("protocol-port", "http:80,https:443"), ("forward-port", "80:443"), ("cert-id", "a-test")],
            redirected,
        )
        .ports(&[("main", "TCP", 80, 8080), ("secure", "TCP", 443, 8080)]),
        case(
            "sticky",
            &["sticky-session", "sticky-session-type", "cookie-timeout"],
            &[HTTP, ("sticky-session", "on"), ("sticky-session-type", "insert"), ("cookie-timeout", "1800")],
            sticky,
        ),
        case(
            "sticky-own",
            &["sticky-session", "sticky-session-type", "cookie"],
            &[HTTP, ("sticky-session", "on"), ("sticky-session-type", "server"), ("cookie", "app")],
            sticky_own,
        ),
        case("not-sticky", &["sticky-session"], &[HTTP, ("sticky-session", "off")], not_sticky),
        case(
            "forwarded",
            &["xforwardedfor-proto", "xforwardedfor-slbport", "xforwardedfor-clientsrcport"],
            &[
                HTTP,
                ("xforwardedfor-proto", "on"),
                ("xforwardedfor-slbport", "on"),
                ("xforwardedfor-clientsrcport", "on"),
            ],
            forwarded,
        ),
        case("fewest", &["scheduler"], &[HTTP, ("scheduler", "wlc")], fewest),
    ]
}

/// Requests are balanced, and not connections; the backend is told for whom they are.
fn requests(world: &World, at: &At) -> Result<(), String> {
    let answers = world.http(at, json!({"n": 30, "keep": true}));
    holds(pods(&answers).len() == 3, pods(&answers))?;
    let headers = &answers[0]["body"]["headers"];
    holds(headers["x-forwarded-for"] == CLIENT && headers["x-forwarded-proto"].is_null(), headers)
}

fn protected(world: &World, at: &At) -> Result<(), String> {
    let mut tls = world.tls(Some("a.test"));
    let answer = world.http(at, json!({"tls": tls})).remove(0);
    holds(answer["status"] == 200 && answer["tls"]["names"] == json!(["a.test"]), &answer)?;
    tls["alpn"] = json!(["h2", "http/1.1"]);
    holds(agreed(world, at, &tls)? == "h2", "no HTTP/2")
}

/// The protocol that the two agree on.
fn agreed(world: &World, at: &At, tls: &Value) -> Result<Value, String> {
    // Whatever is said then is no HTTP/2: the handshake is over by then.
    let script = "import json,socket,ssl,sys\nt=json.loads(sys.argv[1])\nc=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)\n\
                  c.check_hostname=False\nc.load_verify_locations(t['ca'])\nc.set_alpn_protocols(t['alpn'])\n\
                  s=c.wrap_socket(socket.create_connection((sys.argv[2],80),10),server_hostname=t['sni'])\n\
                  print(json.dumps(s.selected_alpn_protocol()))";
    let printed = world.exec("client", &["python3", "-c", script, &tls.to_string(), &at.ip()]);
    serde_json::from_str(&printed).map_err(|e| format!("{printed}: {e}"))
}

fn no_http2(world: &World, at: &At) -> Result<(), String> {
    let mut tls = world.tls(Some("a.test"));
    tls["alpn"] = json!(["h2", "http/1.1"]);
    let agreed = agreed(world, at, &tls)?;
    holds(agreed == "http/1.1", agreed)
}

fn domains(world: &World, at: &At) -> Result<(), String> {
    for (sni, shown) in
        [(Some("b.test"), "b.test"), (Some("x.c.test"), "c.test"), (Some("d.test"), "a.test"), (None, "a.test")]
    {
        let answer = world.http(at, json!({"tls": world.tls(sni)})).remove(0);
        holds(answer["tls"]["names"] == json!([shown]), (sni, answer))?;
    }
    Ok(())
}

fn version(world: &World, at: &At, more: &Value) -> Value {
    let mut tls = world.tls(Some("a.test"));
    tls.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let answer = world.http(at, json!({"tls": tls})).remove(0);
    if answer["error"].is_string() { json!("refused") } else { answer["tls"]["version"].clone() }
}

fn modern(world: &World, at: &At) -> Result<(), String> {
    let (newest, older) = (version(world, at, &json!({})), version(world, at, &json!({"most": "TLSv1_2"})));
    holds(newest == "TLSv1.3" && older == "TLSv1.2", (newest, older))
}

fn strict(world: &World, at: &At) -> Result<(), String> {
    let (newest, only) = (version(world, at, &json!({})), version(world, at, &json!({"least": "TLSv1_3"})));
    holds(newest == "TLSv1.2" && only == "refused", (newest, only))
}

fn idle(world: &World, at: &At) -> Result<(), String> {
    let answers = world.http(at, json!({"n": 2, "keep": true, "wait": 4}));
    holds(answers[0]["status"] == 200 && answers[1]["error"].is_string(), answers)
}

fn not_idle(world: &World, at: &At) -> Result<(), String> {
    let answers = world.http(at, json!({"n": 2, "keep": true, "wait": 4}));
    holds(answers.iter().all(|answer| answer["status"] == 200), answers)
}

fn impatient(world: &World, at: &At) -> Result<(), String> {
    let answer = world.http(at, json!({"path": "/slow?s=3"})).remove(0);
    holds(answer["status"] == 504, answer)
}

fn patient(world: &World, at: &At) -> Result<(), String> {
    let answer = world.http(at, json!({"path": "/slow?s=3"})).remove(0);
    holds(answer["status"] == 200, answer)
}

fn redirected(world: &World, at: &At) -> Result<(), String> {
    let answer = world.http(at, json!({"path": "/shop?a=b", "host": "shop.example.com"})).remove(0);
    let status = answer["status"].as_u64().unwrap_or_default();
    let location = answer["headers"]["location"].as_str().unwrap_or_default();
    holds([301, 302, 307, 308].contains(&status) && location == "https://shop.example.com/shop?a=b", &answer)?;
    let answer = world.to(at, "http", 443, json!({"tls": world.tls(Some("a.test"))}))[0].clone();
    holds(answer["status"] == 200, answer)
}

/// `name=value`, and the rest of a Set-Cookie header.
fn cookie(answer: &Value) -> Result<(String, String), String> {
    let header = answer["headers"]["set-cookie"].as_str().ok_or_else(|| format!("no cookie: {answer}"))?;
    let (cookie, rest) = header.split_once(';').unwrap_or((header, ""));
    Ok((cookie.to_owned(), rest.to_owned()))
}

fn sticky(world: &World, at: &At) -> Result<(), String> {
    let first = world.http(at, json!({})).remove(0);
    let (cookie, rest) = cookie(&first)?;
    holds(cookie.starts_with("SERVERID=") && rest.to_ascii_lowercase().contains("max-age=1800"), &first)?;
    follows(world, at, &first, &cookie)
}

fn sticky_own(world: &World, at: &At) -> Result<(), String> {
    let first = world.http(at, json!({"path": "/cookie"})).remove(0);
    let (cookie, _) = cookie(&first)?;
    holds(cookie.starts_with("app=") && cookie != "app=mine", &first)?;
    follows(world, at, &first, &cookie)?;
    // And the application gets what it has set.
    let body = world.one(at, json!({"headers": {"Cookie": cookie}}))?;
    holds(body["headers"]["cookie"] == "app=mine", body)
}

fn follows(world: &World, at: &At, first: &Value, cookie: &str) -> Result<(), String> {
    let counts = pods(&world.http(at, json!({"n": 12, "headers": {"Cookie": cookie}})));
    let pod = first["body"]["pod"].as_str().unwrap();
    holds(counts.len() == 1 && counts.contains_key(pod), (pod, counts))
}

fn not_sticky(world: &World, at: &At) -> Result<(), String> {
    let answers = world.http(at, json!({"n": 12}));
    holds(answers[0]["headers"]["set-cookie"].is_null() && pods(&answers).len() == 3, answers)
}

fn forwarded(world: &World, at: &At) -> Result<(), String> {
    let body = world.one(at, json!({"headers": {"X-Forwarded-Proto": "gopher", "X-Forwarded-Port": "7"}}))?;
    let headers = &body["headers"];
    let port = headers["x-forwarded-client-srcport"].as_str().and_then(|port| port.parse::<u16>().ok());
    holds(headers["x-forwarded-proto"] == "http" && headers["x-forwarded-port"] == "80" && port > Some(1024), headers)
}

/// While one backend is busy, the others have the requests.
fn fewest(world: &World, at: &At) -> Result<(), String> {
    let answers = world.to(at, "side", 80, json!({"slow": 4, "n": 20}));
    let busy = answers["slow"]["body"]["pod"].as_str().ok_or_else(|| answers.to_string())?.to_owned();
    let counts = pods(answers["others"].as_array().unwrap());
    holds(!counts.contains_key(&busy) && counts.len() == 2, (busy, counts))
}
