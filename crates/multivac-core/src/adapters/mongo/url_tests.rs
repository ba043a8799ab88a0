use super::*;

fn parse(url: &str) -> Result<MongoUrl, StoreError> {
    MongoUrl::parse(&url.into())
}

/// What the driver gets, and what is passed over.
fn read(options: &str) -> (String, Vec<String>) {
    let url = parse(&format!("mongodb://u:p@h/db?{options}")).unwrap_or_else(|error| panic!("{options}: {error}"));
    let driver = url.driver.expose_secret().to_owned();
    (driver.trim_start_matches("mongodb://u:p@h/db").to_owned(), url.passed_over)
}

#[tokio::test]
async fn what_pymongo_takes_is_honoured_or_passed_over_by_its_name() {
    // pymongo 4's `URI_OPTIONS_VALIDATOR_MAP`, and what older ones and the specification have beside it.
    let all = [
        "appname=x&authSource=admin&connectTimeoutMS=1000&directConnection=false&heartbeatFrequencyMS=2000",
        "localThresholdMS=15&maxIdleTimeMS=1000&maxConnecting=2&maxPoolSize=50&minPoolSize=1&replicaSet=rs0",
        "retryReads=true&serverSelectionTimeoutMS=1000&serverMonitoringMode=poll&maxAdaptiveRetries=2",
        "enableOverloadRetargeting=true&tls=true&tlsCAFile=/ca.pem&tlsCertificateKeyFile=/key.pem&ssl=true",
        "tlsAllowInvalidCertificates=false&loadBalanced=false&authMechanism=SCRAM-SHA-256",
        "tlsInsecure=true",
    ];
    for options in all {
        let (driver, passed_over) = read(options);
        assert_eq!((driver, passed_over), (format!("?{options}"), vec![]));
    }
    for (pair, name) in [
        ("compressors=snappy,zlib,zstd", "compressors"),
        ("zlibCompressionLevel=9", "zlibCompressionLevel"),
        ("uuidRepresentation=standard", "uuidRepresentation"),
        ("uuidrepresentation=pythonLegacy", "uuidrepresentation"),
        ("waitQueueTimeoutMS=100", "waitQueueTimeoutMS"),
        ("waitQueueMultiple=5", "waitQueueMultiple"),
        ("tlsAllowInvalidHostnames=true", "tlsAllowInvalidHostnames"),
        ("tlsCertificateKeyFilePassword=hunter2", "tlsCertificateKeyFilePassword"),
        ("tlsDisableOCSPEndpointCheck=true", "tlsDisableOCSPEndpointCheck"),
        ("tlsDisableCertificateRevocationCheck=true", "tlsDisableCertificateRevocationCheck"),
        ("tlsCRLFile=/crl.pem", "tlsCRLFile"),
        ("ssl_cert_reqs=CERT_NONE", "ssl_cert_reqs"),
        ("tz_aware=true", "tz_aware"),
        ("connect=false", "connect"),
        ("fsync=true", "fsync"),
        ("datetime_conversion=datetime", "datetime_conversion"),
        ("unicode_decode_error_handler=ignore", "unicode_decode_error_handler"),
        ("srvAllowedHostsSuffix=example.com", "srvAllowedHostsSuffix"),
        ("proxyHost=proxy", "proxyHost"),
        ("w=1", "w"),
        ("w=0", "w"),
        ("wtimeoutMS=100", "wtimeoutMS"),
        ("wtimeout=100", "wtimeout"),
        ("journal=false", "journal"),
        ("readConcernLevel=local", "readConcernLevel"),
        ("readPreference=secondaryPreferred", "readPreference"),
        ("readPreferenceTags=dc:ny", "readPreferenceTags"),
        ("maxStalenessSeconds=120", "maxStalenessSeconds"),
        ("retryWrites=false", "retryWrites"),
        ("replicaSet=", "replicaSet"),
        ("noSuchOption=1", "noSuchOption"),
    ] {
        assert_eq!(read(pair), (String::new(), vec![name.to_owned()]));
    }
    // What we do anyway, as in the URLs of Atlas.
    let atlas = "retryWrites=true&w=majority&journal=true&readConcernLevel=majority&readPreference=primary";
    assert_eq!(read(atlas), (String::new(), vec![]));
    let (driver, passed_over) = read("compressors=zstd&replicaSet=rs0&&uuidRepresentation=standard&");
    assert_eq!(
        (driver.as_str(), passed_over.join(" ").as_str()),
        ("?replicaSet=rs0", "compressors uuidRepresentation")
    );
    let url = parse("mongodb://h/db?compressors=zstd&replicaSet=rs0").expect("a URL");
    assert_eq!(url.options().await.expect("the driver's options").repl_set_name.as_deref(), Some("rs0"));
}

#[test]
fn times_of_a_call_bound_ours_where_they_are_shorter() {
    for (options, bound, passed_over) in [
        ("socketTimeoutMS=2000", Some(2_000), 0),
        ("timeoutMS=2000&socketTimeoutMS=1500", Some(1_500), 0),
        ("socketTimeoutMS=0", None, 1),
        ("socketTimeoutMS=600000", None, 1),
    ] {
        let url = parse(&format!("mongodb://h/?{options}")).expect("a URL");
        assert_eq!((url.call_timeout, url.passed_over.len()), (bound.map(Duration::from_millis), passed_over));
    }
}

#[test]
fn what_cannot_be_read_is_named_with_what_was_expected_and_without_its_value() {
    for (options, name, expected) in [
        ("connectTimeoutMS=hunter2", "connectTimeoutMS", "a whole number from 0"),
        ("serverSelectionTimeoutMS=-1", "serverSelectionTimeoutMS", "a whole number from 0"),
        ("heartbeatFrequencyMS=10", "heartbeatFrequencyMS", "from 500"),
        ("socketTimeoutMS=hunter2", "socketTimeoutMS", "a whole number"),
        ("tls=hunter2", "tls", "true or false"),
        ("directConnection=hunter2", "directConnection", "true or false"),
        ("authMechanism=hunter2", "authMechanism", "SCRAM-SHA-256"),
        ("serverMonitoringMode=hunter2", "serverMonitoringMode", "stream"),
        ("appName=a&appname=hunter2", "appname", "once"),
    ] {
        let Err(error) = parse(&format!("mongodb://h/?{options}")) else { panic!("{options} is taken") };
        let message = error.to_string();
        assert!(message.contains(&format!("option {name} ")) && message.contains(expected), "{message}");
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
}

#[test]
fn a_password_with_a_question_mark_is_not_taken_for_options() {
    for url in ["mongodb://u:a?hunter2=b@h/", "mongodb://u:a?b&hunter2@h/", "mongodb://u:a?x=1&hunter2=2@h/db"] {
        let Err(error) = parse(url) else { panic!("{url} is taken") };
        assert!(error.to_string().contains("percent-encoded") && !error.to_string().contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn a_name_that_dns_does_not_know_is_waited_for() {
    let url = parse("mongodb+srv://u:hunter2@multivac.invalid/").expect("a URL");
    let error = url.options().await.expect_err("there is no such name");
    assert!(error.is_transient() && !format!("{error:?}").contains("hunter2"), "{error:?}");
}
