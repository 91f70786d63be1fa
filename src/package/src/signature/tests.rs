use super::*;
use crate::signing::PrivateKey;

fn key() -> PrivateKey {
    PrivateKey::generate().expect("randomness")
}

#[test]
fn a_signature_survives_its_file_and_verifies() {
    let key = key();
    let signature = key.sign(b"manifest");
    let parsed = Signature::parse(&signature.encode()).expect("parses");
    assert_eq!(parsed, signature);
    assert_eq!(parsed.verify(b"manifest", &key.public()), Ok(()));
}

#[test]
fn other_bytes_other_keys_and_no_signature_have_their_own_codes() {
    let (key, other) = (key(), key());
    let signature = key.sign(b"manifest");
    let code = |manifest: &[u8], signature, trusted: &[PublicKey]| {
        verify_any(manifest, signature, trusted)
            .expect_err("refused")
            .code()
    };
    let trusted = [other.public(), key.public()];
    assert_eq!(
        verify_any(b"manifest", Some(&signature), &trusted),
        Ok(&trusted[1])
    );
    assert_eq!(
        code(b"manifesto", Some(&signature), &trusted),
        Code::SignatureInvalid
    );
    assert_eq!(
        code(b"manifest", Some(&signature), &trusted[..1]),
        Code::PublisherUnknown
    );
    assert_eq!(code(b"manifest", None, &trusted), Code::SignatureMissing);
}

#[test]
fn a_signature_relabelled_with_a_trusted_key_id_is_refused() {
    let (key, other) = (key(), key());
    let mut signature = other.sign(b"manifest");
    signature.key_id = key.public().key_id();
    let error = signature
        .verify(b"manifest", &key.public())
        .expect_err("refused");
    assert_eq!(error.code(), Code::SignatureInvalid);
}

#[test]
fn a_signature_over_the_bare_manifest_is_refused() {
    use ed25519_dalek::Signer as _;
    let raw = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
    let public = PublicKey::of_private(&raw);
    let signature = Signature::new(public.key_id(), raw.sign(b"manifest"));
    assert!(signature.verify(b"manifest", &public).is_err());
}

#[test]
fn every_flipped_bit_of_a_signature_is_refused() {
    let key = key();
    let good = key.sign(b"manifest");
    for bit in 0..512 {
        let mut bytes = good.signature.to_bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let signature = Signature::new(
            good.key_id.clone(),
            ed25519_dalek::Signature::from_bytes(&bytes),
        );
        assert!(
            signature.verify(b"manifest", &key.public()).is_err(),
            "bit {bit}"
        );
    }
}

#[test]
fn signature_files_have_one_spelling() {
    let text = String::from_utf8(key().sign(b"m").encode()).expect("ASCII");
    let others = [
        format!("{text}\n"),
        text.replace("\":\"", "\": \""),
        text.replace("{", "{\"x\":1,"),
        text.replace("==", ""),
        text.replace("key_id\":\"", "key_id\":\"0"),
        "{}".into(),
        " ".repeat(2000),
    ];
    for other in others {
        assert_eq!(
            Signature::parse(other.as_bytes()),
            Err(SignatureError::Malformed),
            "{other}"
        );
    }
}

#[test]
fn weak_and_malformed_public_keys_are_refused() {
    let mut identity = [0; 32];
    identity[0] = 1;
    assert_eq!(PublicKey::from_bytes(&identity), Err(KeyError::Weak));
    assert_eq!(PublicKey::from_bytes(&[2; 32]), Err(KeyError::Point));
    assert_eq!(PublicKey::from_pem("no key"), Err(KeyError::Pem));
    assert_eq!(KeyId::parse("0123456789ABCDEF"), Err(KeyError::Id));
}

#[test]
fn public_keys_survive_pem_and_raw_bytes() {
    let public = key().public();
    let pem = public.to_pem().expect("encodes");
    assert_eq!(PublicKey::from_pem(&pem).as_ref(), Ok(&public));
    assert_eq!(
        PublicKey::from_bytes(&public.to_bytes()).as_ref(),
        Ok(&public)
    );
    assert_eq!(
        public.key_id().as_str(),
        &Digest::of(&public.to_bytes()).to_string()[..16]
    );
}
