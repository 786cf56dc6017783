# Each recipe is one line that could be typed. `.ci/run` is the truth about what must pass.

# Everything that a change must pass
ci:
    .ci/run

# Format all crates
fmt:
    cargo fmt --all

# Lints, as in CI
lint:
    cargo clippy --workspace --all-targets --all-features --locked -- -D warnings

# All tests; installs what it lacks
test:
    tests/run

# End-to-end tests alone: the real binary against real servers
e2e *ARGS:
    cargo nextest run --locked --workspace --all-features -E 'package(portcullis-e2e)' {{ARGS}}

# Measures the gateway beside others; `just bench --check`, `just bench --quick`
bench *ARGS:
    tests/bench/run {{ARGS}}

# Documentation, with broken links denied
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --workspace --all-features --locked

# The gateway with an issuer and two services, all embedded; `just demo --once` runs the tour and exits
demo *ARGS:
    cargo run --locked -p portcullis-gateway -- demo {{ARGS}}

# Check a configuration
check-config FILE:
    cargo run --locked -p portcullis-gateway -- check --config {{FILE}}

# Why a request is admitted or refused: just explain --config FILE GET https://api.example/orders
explain *ARGS:
    cargo run --locked -p portcullis-gateway -- explain {{ARGS}}

# The examples, the unit, the manifests, the alert rules
check-deploy:
    deploy/check

# Licences, bans, sources, advisories; needs cargo-deny (.ci/install-tool cargo-deny)
deny:
    PATH="$PWD/target/tools/bin:$PATH" cargo deny --locked check
