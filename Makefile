# The two commands of the README are `make lab` and `make test`.

.PHONY: lab test soak schemathesis coredns fuzz bench bench-full fmt clippy clean

lab: ## three nodes in network namespaces, examples/hello.yaml, requests through each Service
	@scripts/install-deps lab
	cargo build --locked --release -p portolan
	@scripts/lab-demo target/release/portolan

test: ## installs what the tests need, runs every test, and every benchmark at toy size
	@scripts/install-deps test
	cargo test --locked --workspace
	cargo test --locked --workspace --bench suite
	@scripts/schemathesis target/debug/portolan 60 1
	@scripts/fuzz 30 1
	@PORTOLAN_LAB_DIR=target/demo-lab PORTOLAN_LAB_LISTEN=127.0.0.1:16443 scripts/lab-demo target/debug/portolan --down

soak: ## the server away for a minute under load; foreign clients through five minutes of churn and, beside it, ten of silence
	@scripts/install-deps test
	cargo build --locked --workspace
	PORTOLAN_FAULT_SECONDS=60 cargo test --locked -p portolan --test faults -- --nocapture
	PORTOLAN_SOAK_SECONDS=300 PORTOLAN_IDLE_SECONDS=600 cargo test --locked --workspace --test follow -- --nocapture

schemathesis: ## ten minutes of what /openapi.json allows, against a server of its own
	@scripts/install-deps test
	cargo build --locked -p portolan
	@scripts/schemathesis target/debug/portolan 600

coredns: ## a real CoreDNS, reading from a Portolan server, is asked what dns/tests/table asks; needs Go
	@scripts/install-deps test
	cargo build --locked -p portolan
	@scripts/coredns target/debug/portolan

fuzz: ## ten minutes of messages to the DNS server, led by coverage
	@scripts/install-deps test
	@scripts/fuzz 600

bench: ## measures Portolan beside its peers and writes target/bench/report.md; see docs/performance.md
	@scripts/install-deps bench
	cargo build --locked --release -p portolan
	cargo bench --locked -p bench --bench suite

bench-full: ## the same with the long cases and the big sizes
	@scripts/install-deps bench
	cargo build --locked --release -p portolan
	cargo bench --locked -p bench --bench suite -- --full

fmt:
	cargo fmt --all --check

clippy:
	cargo clippy --locked --workspace --all-targets -- -D warnings

clean:
	cargo clean
