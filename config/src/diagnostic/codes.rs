//! Every diagnostic code, with what it means.

/// Makes a constant for each code, and the list of all of them.
macro_rules! codes {
    ($($(#[doc = $meaning:literal])+ $constant:ident = $code:literal;)+) => {
        $($(#[doc = $meaning])+ pub const $constant: &str = $code;)+

        /// Every code with its meaning.
        pub const ALL: &[(&str, &str)] = &[$(($code, concat!($($meaning),+))),+];
    };
}

codes! {
    /// The text is not YAML.
    SYNTAX = "syntax";
    /// A key is there twice in one mapping.
    DUPLICATE_KEY = "duplicate_key";
    /// A part of YAML that configuration does without: anchors, aliases, merge keys, tags, several documents, keys that are no strings.
    UNSUPPORTED_YAML = "unsupported_yaml";
    /// A key that its mapping does not have.
    UNKNOWN_KEY = "unknown_key";
    /// A key that its mapping needs is not there.
    MISSING_KEY = "missing_key";
    /// Another kind of value is needed.
    WRONG_TYPE = "wrong_type";
    /// A value that cannot be meant.
    INVALID_VALUE = "invalid_value";
    /// A value that is above its ceiling or below its floor.
    OUT_OF_RANGE = "out_of_range";
    /// A secret is written where only its place may be.
    SECRET_WRITTEN = "secret_written";
    /// A secret is not where the configuration says.
    SECRET_UNAVAILABLE = "secret_unavailable";
    /// A file cannot be read.
    UNREADABLE_FILE = "unreadable_file";
    /// A file with a secret can be read by everybody.
    WORLD_READABLE_FILE = "world_readable_file";
    /// A pattern for policy files matches no file.
    EMPTY_PATTERN = "empty_pattern";
    /// A name that could not be a metric label.
    INVALID_NAME = "invalid_name";
    /// Two things of one kind have the same name.
    DUPLICATE_NAME = "duplicate_name";
    /// A name that nothing has.
    UNKNOWN_NAME = "unknown_name";
    /// Not an address that can be listened on or connected to.
    INVALID_ADDRESS = "invalid_address";
    /// Plain HTTP where others could listen in.
    PLAINTEXT_NOT_LOOPBACK = "plaintext_not_loopback";
    /// Not the address of an issuer or a key set.
    INVALID_URL = "invalid_url";
    /// An address of an issuer or a key set that could be forged or carries a credential.
    INSECURE_URL = "insecure_url";
    /// An issuer whose tokens for anybody else would be accepted.
    AUDIENCE_MISSING = "audience_missing";
    /// A signature algorithm that is not accepted.
    ALGORITHM_UNSUPPORTED = "algorithm_unsupported";
    /// A route that takes WebSockets where none can be.
    WEBSOCKET_IMPOSSIBLE = "websocket_impossible";
    /// An issuer's keys come from nowhere, or from two places.
    KEY_SOURCE = "key_source";
    /// A file is no key set, or has no key that could verify.
    INVALID_KEY_SET = "invalid_key_set";
    /// A file is no certificate or private key.
    INVALID_CERTIFICATE = "invalid_certificate";
    /// A private key that belongs to another certificate.
    KEY_MISMATCH = "key_mismatch";
    /// A certificate that is no longer valid, or not yet.
    CERTIFICATE_EXPIRED = "certificate_expired";
    /// An identity header that cannot be written or believed.
    INVALID_IDENTITY_HEADER = "invalid_identity_header";
    /// A scope that could not be in a token.
    INVALID_SCOPE = "invalid_scope";
    /// A scope that no policy file defines.
    UNREGISTERED_SCOPE = "unregistered_scope";
    /// A scope that two policy files define.
    SCOPE_DEFINED_TWICE = "scope_defined_twice";
    /// A scope that no route needs.
    UNUSED_SCOPE = "unused_scope";
    /// A route that requires an empty list of scopes.
    EMPTY_SCOPES = "empty_scopes";
    /// A route that says neither who may call nor that anybody may.
    ACCESS_MISSING = "access_missing";
    /// A route that says two things about who may call.
    ACCESS_CONTRADICTORY = "access_contradictory";
    /// A path pattern that no request could match or that two readers could read differently.
    INVALID_PATH_PATTERN = "invalid_path_pattern";
    /// Not a host name.
    INVALID_HOST = "invalid_host";
    /// A method that no route can be for.
    INVALID_METHOD = "invalid_method";
    /// Two routes match the same request with equal weight.
    OVERLAPPING_ROUTE = "overlapping_route";
    /// A route takes requests from a route of another team.
    ROUTE_OF_ANOTHER_TEAM = "route_of_another_team";
    /// A service may serve requests of one route as those of another, which needs something else of its
    /// callers.
    CONTESTED_ROUTE = "contested_route";
    /// A route takes requests from one with a more specific path, because it names their host.
    SHADOWED_ROUTE = "shadowed_route";
    /// A change waits for a policy file that it touches and that is held at its last good content.
    HELD_BACK = "held_back";
    /// A file has more problems than are shown.
    MORE_PROBLEMS = "more_problems";
}
