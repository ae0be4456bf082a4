use super::*;

fn descriptor(name: &str) -> Value {
    json!({"mediaType": "application/x", "digest": Digest::sha256(name.as_bytes()).to_string(), "size": 1})
}

fn parse(value: &Value) -> Result<Manifest, ManifestError> {
    Manifest::parse(value.to_string().as_bytes(), None)
}

fn kinds(manifest: &Manifest) -> Vec<(Digest, EdgeKind)> {
    manifest
        .edges
        .iter()
        .map(|edge| (edge.digest, edge.kind))
        .collect()
}

#[test]
fn an_image_refers_to_its_config_and_layers() {
    let manifest =
        parse(&json!({"schemaVersion": 2, "config": descriptor("c"), "layers": [descriptor("l"), descriptor("l")],
        "subject": descriptor("s"), "annotations": {"a": "b"}}))
        .unwrap();
    assert_eq!(manifest.media_type, media_type::IMAGE_MANIFEST);
    assert_eq!(manifest.artifact_type.as_deref(), Some("application/x"));
    assert_eq!(manifest.subject, Some(Digest::sha256(b"s")));
    let expected = [
        (Digest::sha256(b"c"), EdgeKind::Content),
        (Digest::sha256(b"l"), EdgeKind::Content),
    ];
    assert_eq!(kinds(&manifest), expected);
}

#[test]
fn descriptors_are_found_wherever_they_stand() {
    let manifest = parse(
        &json!({"manifests": [descriptor("m")], "x-custom": {"deep": [{"deeper": descriptor("d")}]},
        "note": {"digest": Digest::sha256(b"no size").to_string()}}),
    )
    .unwrap();
    assert_eq!(manifest.media_type, media_type::IMAGE_INDEX);
    assert_eq!(manifest.artifact_type, None);
    let expected = [
        (Digest::sha256(b"m"), EdgeKind::Child),
        (Digest::sha256(b"d"), EdgeKind::Optional),
    ];
    assert_eq!(kinds(&manifest), expected);
}

#[test]
fn foreign_layers_may_be_missing() {
    let mut layer = descriptor("l");
    layer["mediaType"] = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip".into();
    let manifest = parse(&json!({"config": descriptor("c"), "layers": [layer]})).unwrap();
    assert_eq!(manifest.edges[1].kind, EdgeKind::Optional);
}

#[test]
fn ambiguous_and_malformed_manifests_are_refused() {
    let header = |value: Value, header| Manifest::parse(value.to_string().as_bytes(), Some(header));
    assert!(matches!(parse(&json!([])), Err(ManifestError::Json(_))));
    assert!(matches!(
        Manifest::parse(b"", None),
        Err(ManifestError::Json(_))
    ));
    assert!(matches!(
        Manifest::parse("[".repeat(5000).as_bytes(), None),
        Err(ManifestError::Json(_))
    ));
    assert!(matches!(
        Manifest::parse(format!("{{\"a\":{}", "[".repeat(5000)).as_bytes(), None),
        Err(ManifestError::Json(_))
    ));
    assert_eq!(
        parse(&json!({"schemaVersion": 1})),
        Err(ManifestError::Schema1)
    );
    assert_eq!(
        parse(&json!({"manifests": [], "layers": []})),
        Err(ManifestError::Ambiguous)
    );
    assert!(matches!(
        header(json!({"mediaType": "a/b"}), "a/c"),
        Err(ManifestError::MediaTypeDiffers { .. })
    ));
    assert_eq!(
        header(json!({"mediaType": "a/b"}), "a/b; charset=utf-8")
            .unwrap()
            .media_type,
        "a/b"
    );
    assert!(matches!(
        parse(&json!({"layers": {}})),
        Err(ManifestError::Field { .. })
    ));
    assert!(matches!(
        parse(&json!({"layers": ["x"]})),
        Err(ManifestError::Field { .. })
    ));
    assert!(matches!(
        parse(&json!({"subject": 1})),
        Err(ManifestError::Field { .. })
    ));
    let mut odd = descriptor("n");
    odd["artifactType"] = "application/\0".into();
    for (value, place) in [
        (json!({"mediaType": "a/\0"}), "/mediaType: "),
        (json!({"artifactType": "a/\0"}), "/artifactType: "),
        (json!({"config": {"mediaType": "a/\0"}}), "/artifactType: "),
        (json!({"manifests": [odd]}), "/manifests/0/artifactType: "),
    ] {
        let refused = parse(&value).unwrap_err().to_string();
        assert!(refused.starts_with(place), "{refused}");
    }
    assert!(parse(&json!({"annotations": {"a": "\0"}, "x": {"artifactType": "\0"}})).is_ok());
    let refused =
        parse(&json!({"layers": [{"digest": "sha256:../../x", "size": 1, "mediaType": "a/b"}]}))
            .unwrap_err();
    assert!(
        refused.to_string().starts_with("/layers/0/digest: "),
        "{refused}"
    );
    let large = vec![b' '; MAX_MANIFEST_BYTES + 1];
    assert_eq!(Manifest::parse(&large, None), Err(ManifestError::TooLarge));
}
