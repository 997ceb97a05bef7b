#!/bin/sh
# Makes the certificates that tests and experiments need: a CA, good leaves, and one of every bad kind.
#
#   certs/generate.sh [--if-missing] [FOLDER]        FOLDER defaults to certs/generated
#
# Each identity has a folder fit for --tls-dir: ca.pem (whom it trusts), cert.pem (leaf and chain),
# key.pem (0600), and crl.pem where revocation is checked. A second run replaces everything, but no folder
# that holds something else; with --if-missing, nothing is done while what is there is complete and good
# for another week.
#
# Only POSIX sh and the openssl command are needed.
set -eu
umask 022

if_missing=no
if [ "${1:-}" = "--if-missing" ]; then
    if_missing=yes
    shift
fi
version=7 # of what is made: another one is made anew
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
target=${1:-$here/generated}

if [ "$if_missing" = yes ] && [ "$(cat "$target/complete" 2>/dev/null)" = "$version" ] &&
    openssl x509 -in "$target/server/cert.pem" -noout -checkend 604800 >/dev/null 2>&1; then
    exit 0
fi

# From elsewhere a relative name would be another folder's.
mkdir -p "$(dirname -- "$target")"
if [ -d "$target" ]; then
    target=$(CDPATH='' cd -- "$target" && pwd)
else
    target=$(CDPATH='' cd -- "$(dirname -- "$target")" && pwd)/$(basename -- "$target")
fi
# Only what this script has made is removed.
if [ -e "$target" ] && ! grep -q '^[0-9][0-9]*$' "$target/complete" 2>/dev/null &&
    ! rmdir -- "$target" 2>/dev/null; then
    printf '%s: %s is there, and holds something else than certificates that were made here\n' \
        "$0" "$target" >&2
    exit 73
fi
work=$(mktemp -d "$(dirname -- "$target")/.certs.XXXXXX")
trap 'rm -rf "$work"' EXIT INT TERM
cd "$work"

# ---- authorities -------------------------------------------------------------------------------

key() { # key FILE KIND
    case $2 in
    ec) openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1" ;;
    rsa) openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out "$1" ;;
    weak) openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024 -out "$1" ;;
    ed25519) openssl genpkey -algorithm ED25519 -out "$1" ;;
    esac 2>/dev/null
    chmod 600 "$1"
}

authority() { # authority NAME COMMON-NAME
    mkdir -p "$1/newcerts"
    : >"$1/index.txt"
    echo 1000 >"$1/serial"
    echo 1000 >"$1/crlnumber"
    key "$1/key.pem" ec
    openssl req -x509 -new -key "$1/key.pem" -sha256 -days 3650 -subj "/CN=$2" \
        -addext "basicConstraints=critical,CA:TRUE" \
        -addext "keyUsage=critical,keyCertSign,cRLSign" -out "$1/cert.pem"
    cat >"$1/ca.cnf" <<CNF
[ca]
default_ca = main
[main]
dir = $1
database = $1/index.txt
serial = $1/serial
crlnumber = $1/crlnumber
new_certs_dir = $1/newcerts
certificate = $1/cert.pem
private_key = $1/key.pem
default_md = sha256
default_days = 365
default_crl_days = 365
policy = any
unique_subject = no
copy_extensions = none
[any]
commonName = supplied
CNF
}

# leaf FOLDER AUTHORITY KEY-KIND SAN [EKU] [START] [END] [DIGEST] [EXTENSION]
leaf() {
    folder=$1 ca=$2 kind=$3 san=$4
    eku=${5:-serverAuth,clientAuth} start=${6:-} end=${7:-} digest=${8:-sha256} extension=${9:-}
    mkdir -p "$folder"
    key "$folder/key.pem" "$kind"
    usage=digitalSignature
    case $kind in rsa | weak) usage=digitalSignature,keyEncipherment ;; esac
    {
        echo "basicConstraints=critical,CA:FALSE"
        echo "keyUsage=critical,$usage"
        echo "extendedKeyUsage=$eku"
        echo "subjectKeyIdentifier=hash"
        echo "authorityKeyIdentifier=keyid"
        if [ -n "$san" ]; then echo "subjectAltName=$san"; fi
        echo "$extension"
    } >"$folder/ext.cnf"
    openssl req -new -key "$folder/key.pem" -subj "/CN=$folder" -out "$folder/csr.pem"
    set -- -batch -notext -config "$ca/ca.cnf" -extfile "$folder/ext.cnf" -md "$digest" \
        -in "$folder/csr.pem" -out "$folder/cert.pem"
    if [ -n "$start" ]; then set -- "$@" -startdate "$start" -enddate "$end"; fi
    openssl ca "$@" 2>/dev/null
    cp "$ca/cert.pem" "$folder/ca.pem"
    rm -f "$folder/csr.pem" "$folder/ext.cnf"
}

host="DNS:localhost,IP:127.0.0.1,IP:::1"
authority ca "Grenache test CA"

# ---- good ones ---------------------------------------------------------------------------------

leaf server ca ec "$host,URI:grenache:rpc_test"
leaf grape ca ec "$host"
leaf client ca ec "DNS:client.test"
leaf worker ca ec "URI:grenache:rpc_test"
leaf other-worker ca ec "URI:grenache:other"
leaf wildcard-worker ca ec "URI:grenache:rest:*"
leaf rsa ca rsa "$host,URI:grenache:rpc_test"
leaf ed25519 ca ed25519 "$host,URI:grenache:rpc_test"

authority issuer "Grenache test intermediate CA"
# between KEY OUT [OPTION…]: a certificate of the intermediate authority for that key.
between() {
    openssl req -new -key "$1" -subj "/CN=Grenache test intermediate CA" -out issuer/csr.pem
    {
        printf 'basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\n'
        printf 'subjectKeyIdentifier=%s\n' "$identifier"
    } >issuer/ext.cnf
    out=$2
    shift 2
    openssl ca -batch -notext -config ca/ca.cnf -extfile issuer/ext.cnf -in issuer/csr.pem \
        -out "$out" "$@" 2>/dev/null
}
identifier=hash
between issuer/key.pem issuer/cert.pem
leaf intermediate issuer ec "$host,URI:grenache:rpc_test"
leaf missing-intermediate issuer ec "$host,URI:grenache:rpc_test"
cat issuer/cert.pem >>intermediate/cert.pem
cp ca/cert.pem intermediate/ca.pem
cp ca/cert.pem missing-intermediate/ca.pem

# The server's in other formats; the passphrase is "secret".
mkdir formats
openssl x509 -in server/cert.pem -outform DER -out formats/cert.der
openssl pkcs8 -topk8 -nocrypt -in server/key.pem -outform DER -out formats/key.der
openssl pkcs8 -topk8 -in server/key.pem -passout pass:secret -out formats/key-encrypted.pem
openssl pkcs12 -export -in intermediate/cert.pem -inkey intermediate/key.pem \
    -passout pass:secret -out formats/bundle.p12
chmod 600 formats/*

# ---- bad ones ----------------------------------------------------------------------------------

leaf expired ca ec "$host,URI:grenache:rpc_test" "" 20200101000000Z 20200201000000Z
leaf not-yet-valid ca ec "$host,URI:grenache:rpc_test" "" 20400101000000Z 20410101000000Z
leaf client-only ca ec "$host,URI:grenache:rpc_test" clientAuth
leaf server-only ca ec "$host,URI:grenache:rpc_test" serverAuth
leaf no-san ca ec ""
# Its subject has several values in one place, and names that count nowhere but in the SAN.
leaf multivalued ca ec ""
openssl req -new -key multivalued/key.pem -multivalue-rdn \
    -subj "/O=Grenache+OU=URI:grenache:rpc_test/OU=localhost+CN=localhost" -out multivalued/csr.pem
printf 'basicConstraints=critical,CA:FALSE\nextendedKeyUsage=serverAuth,clientAuth\n' \
    >multivalued/ext.cnf
openssl x509 -req -in multivalued/csr.pem -CA ca/cert.pem -CAkey ca/key.pem -days 365 -sha256 \
    -extfile multivalued/ext.cnf -out multivalued/cert.pem 2>/dev/null
rm -f multivalued/csr.pem multivalued/ext.cnf ca/*.srl
leaf weak-rsa ca weak "$host,URI:grenache:rpc_test"
leaf sha1 ca ec "$host,URI:grenache:rpc_test" "" "" "" sha1

authority stranger "A stranger's CA"
leaf unknown-ca stranger ec "$host,URI:grenache:rpc_test"
cp ca/cert.pem unknown-ca/ca.pem # trusts us, but nobody trusts it

mkdir self-signed
key self-signed/key.pem ec
openssl req -x509 -new -key self-signed/key.pem -days 365 -subj "/CN=self-signed" \
    -addext "subjectAltName=$host,URI:grenache:rpc_test" -out self-signed/cert.pem
cp ca/cert.pem self-signed/ca.pem

# Chains whose authority in the middle has expired, and has another key than the leaf was signed with.
for folder in expired-intermediate other-intermediate; do
    leaf $folder issuer ec "$host,URI:grenache:rpc_test"
    cp ca/cert.pem $folder/ca.pem
    between=$folder/between.pem
    case $folder in
    expired-*) between issuer/key.pem $between -startdate 20200101000000Z -enddate 20200201000000Z ;;
    other-*)
        key $folder/other-key.pem ec
        identifier=none # with one, the leaf's authority key identifier would tell
        between $folder/other-key.pem $between
        ;;
    esac
    cat $between >>$folder/cert.pem
    rm -f $between $folder/other-key.pem
done

leaf revoked ca ec "$host,URI:grenache:rpc_test"
openssl ca -config ca/ca.cnf -revoke revoked/cert.pem 2>/dev/null
openssl ca -config ca/ca.cnf -gencrl -out ca/crl.pem 2>/dev/null
leaf checks-revocation ca ec "$host,URI:grenache:rpc_test"
cp ca/crl.pem checks-revocation/crl.pem

# Lists that say nothing: one that is out of date, and one of another authority.
mkdir lists
openssl ca -config ca/ca.cnf -gencrl -crl_lastupdate 20200101000000Z \
    -crl_nextupdate 20200201000000Z -out lists/expired.pem 2>/dev/null
openssl ca -config stranger/ca.cnf -gencrl -out lists/of-another.pem 2>/dev/null
cp ca/crl.pem lists/good.pem

# The intermediate authority is revoked, and says that the leaves that it issued are not.
leaf checks-authorities ca ec "$host,URI:grenache:rpc_test"
openssl ca -config ca/ca.cnf -revoke issuer/cert.pem 2>/dev/null
openssl ca -config ca/ca.cnf -gencrl -out checks-authorities/crl.pem 2>/dev/null
openssl ca -config issuer/ca.cnf -gencrl 2>/dev/null >>checks-authorities/crl.pem

# Status to staple (RFC 6960); who has the first certificate must staple one (RFC 7633).
leaf stapled ca ec "$host,URI:grenache:rpc_test" "" "" "" "" "tlsfeature=status_request"
for folder in stapled revoked client; do
    openssl ocsp -index ca/index.txt -CA ca/cert.pem -rsigner ca/cert.pem -rkey ca/key.pem \
        -issuer ca/cert.pem -cert $folder/cert.pem -ndays 3650 -respout $folder/status.der \
        >/dev/null 2>&1
done

# The same, of all kinds: status NAME SIGNER INDEX ISSUER CERTIFICATE [OPTIONS…]
status() {
    name=$1 signer=$2 index=$3 issuer=$4 certificate=$5
    shift 5
    openssl ocsp -index "$index/index.txt" -CA "$issuer/cert.pem" -rsigner "$signer/cert.pem" \
        -rkey "$signer/key.pem" -issuer "$issuer/cert.pem" -cert "$certificate/cert.pem" \
        "$@" -respout "status/$name.der" >/dev/null 2>&1
}
mkdir status
leaf status-signer ca ec "" OCSPSigning
status appointed status-signer ca ca stapled -ndays 3650
status not-appointed no-san ca ca stapled -ndays 3650
status by-itself stapled ca ca stapled -ndays 3650
status by-a-stranger stranger ca ca stapled -ndays 3650
status unknown ca stranger ca stapled -ndays 3650
status without-end ca ca ca stapled
status intermediate issuer issuer issuer intermediate -ndays 3650
openssl ca -config issuer/ca.cnf -gencrl -out status/issuer-crl.pem 2>/dev/null

# ---- done --------------------------------------------------------------------------------------

rm -rf stranger issuer ca/newcerts ca/index.txt* ca/serial* ca/crlnumber* ca/ca.cnf
cp ca/cert.pem ca/ca.pem
echo "$version" >complete
chmod 755 .
cd /
rm -rf "$target"
mv "$work" "$target"
trap - EXIT INT TERM
