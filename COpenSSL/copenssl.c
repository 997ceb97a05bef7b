#define _GNU_SOURCE
#include "COpenSSL.h"

#include <openssl/pkcs12.h>
#include <string.h>
#include <time.h>

/* ---- macros ---- */

const uint64_t grenache_option_no_renegotiation = SSL_OP_NO_RENEGOTIATION;
const uint64_t grenache_option_no_compression = SSL_OP_NO_COMPRESSION;
const uint64_t grenache_option_no_ticket = SSL_OP_NO_TICKET;
const long grenache_mode_release_buffers = SSL_MODE_RELEASE_BUFFERS;
const long grenache_mode_moving_write_buffer = SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER;
const long grenache_mode_no_auto_chain = SSL_MODE_NO_AUTO_CHAIN;

void grenache_ctx_set_mode(SSL_CTX *ctx, long mode) { SSL_CTX_set_mode(ctx, mode); }

int grenache_ctx_set_versions(SSL_CTX *ctx, int lowest, int highest) {
    return SSL_CTX_set_min_proto_version(ctx, lowest) &&
           SSL_CTX_set_max_proto_version(ctx, highest);
}

int grenache_ctx_set_groups(SSL_CTX *ctx, const char *groups) {
    return SSL_CTX_set1_groups_list(ctx, groups) == 1;
}

void grenache_ctx_session_cache_off(SSL_CTX *ctx) {
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
}

int grenache_ctx_add_chain(SSL_CTX *ctx, X509 *certificate) {
    return SSL_CTX_add1_chain_cert(ctx, certificate) == 1;
}

int grenache_ssl_set_server_name(SSL *ssl, const char *name) {
    return SSL_set_tlsext_host_name(ssl, name) == 1;
}

int grenache_ssl_group(SSL *ssl) { return SSL_get_negotiated_group(ssl); }

void grenache_ctx_on_server_name(SSL_CTX *ctx, int (*choose)(SSL *, int *, void *)) {
    SSL_CTX_set_tlsext_servername_callback(ctx, choose);
}

const int grenache_server_name_ok = SSL_TLSEXT_ERR_OK;
const int grenache_server_name_refused = SSL_TLSEXT_ERR_ALERT_FATAL;

/* ---- sessions ---- */

void grenache_ctx_on_ticket_key(SSL_CTX *ctx, grenache_ticket_key choose) {
    SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, choose);
}

int grenache_ticket_keys(
    EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, const uint8_t *cipher_key, const uint8_t *mac_key,
    const unsigned char *iv, int seals) {
    OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)(uintptr_t)"SHA256", 0),
        OSSL_PARAM_construct_end(),
    };
    return EVP_MAC_init(mac, mac_key, 32, parameters) &&
           EVP_CipherInit_ex2(cipher, EVP_aes_256_cbc(), cipher_key, iv, seals, NULL);
}

int grenache_hmac(const uint8_t *key, size_t size, const uint8_t *bytes, size_t count, uint8_t *mac) {
    size_t length = 0;
    return EVP_Q_mac(
               NULL, "HMAC", NULL, "SHA256", NULL, key, size, bytes, count, mac, 32, &length) &&
           length == 32;
}

void grenache_ctx_on_new_session(SSL_CTX *ctx, int (*store)(SSL *, SSL_SESSION *)) {
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(ctx, store);
}

/* ---- revocation ---- */

/* Whether a list that `issuer` signed revokes `certificate`. */
static int is_revoked(X509_STORE_CTX *verification, X509 *certificate, X509 *issuer) {
    int revoked = 0;
    STACK_OF(X509_CRL) *lists =
        X509_STORE_CTX_get1_crls(verification, X509_get_issuer_name(certificate));
    for (int index = 0; !revoked && lists && index < sk_X509_CRL_num(lists); index++) {
        X509_REVOKED *entry = NULL;
        X509_CRL *list = sk_X509_CRL_value(lists, index);
        revoked = X509_CRL_get0_by_cert(list, &entry, certificate) == 1 &&
                  X509_CRL_verify(list, X509_get0_pubkey(issuer)) == 1;
    }
    sk_X509_CRL_pop_free(lists, X509_CRL_free);
    return revoked;
}

/* ---- certificate status ---- */

void grenache_ctx_on_status(SSL_CTX *ctx, int (*check)(SSL *, void *)) {
    SSL_CTX_set_tlsext_status_cb(ctx, check);
}

void grenache_ssl_ask_status(SSL *ssl) { SSL_set_tlsext_status_type(ssl, TLSEXT_STATUSTYPE_ocsp); }

long grenache_ssl_status(SSL *ssl, const uint8_t **bytes) {
    return SSL_get_tlsext_status_ocsp_resp(ssl, bytes);
}

int grenache_ssl_set_status(SSL *ssl, const uint8_t *bytes, size_t size) {
    uint8_t *copy = OPENSSL_memdup(bytes, size);
    if (!copy) return 0;
    return SSL_set_tlsext_status_ocsp_resp(ssl, copy, (long)size) == 1;
}

/* Clocks may differ by this much, in seconds. */
#define STATUS_SKEW 300

/* Whether a list revokes whom the issuer has appointed to sign. */
static int signer_is_revoked(OCSP_BASICRESP *basic, STACK_OF(X509) *chain, X509_STORE *lists) {
    X509 *signer = NULL;
    int revoked = 0;
    X509_STORE_CTX *verification = X509_STORE_CTX_new();
    if (!verification || OCSP_resp_get0_signer(basic, &signer, chain) != 1 ||
        X509_STORE_CTX_init(verification, lists, signer, chain) != 1) {
        X509_STORE_CTX_free(verification);
        return 1;
    }
    for (int index = 1; !revoked && index < sk_X509_num(chain); index++) {
        X509 *issuer = sk_X509_value(chain, index);
        if (X509_check_issued(issuer, signer) == X509_V_OK)
            revoked = is_revoked(verification, signer, issuer);
    }
    X509_STORE_CTX_free(verification);
    return revoked;
}

static int status_in(
    OCSP_BASICRESP *basic, STACK_OF(X509) *chain, X509_STORE *roots, X509_STORE *lists,
    int64_t now, int64_t *next_update) {
    int status = -1, reason = -1, found = 0;
    ASN1_GENERALIZEDTIME *revoked = NULL, *this_update = NULL, *next = NULL;
    if (OCSP_basic_verify(basic, chain, roots, 0) != 1) return grenache_status_unsigned;
    if (lists && signer_is_revoked(basic, chain, lists)) return grenache_status_unsigned;
    /* Responders name certificates by digests of their choice. */
    const EVP_MD *digests[] = {EVP_sha1(), EVP_sha256()};
    for (int index = 0; !found && index < 2; index++) {
        OCSP_CERTID *id =
            OCSP_cert_to_id(digests[index], sk_X509_value(chain, 0), sk_X509_value(chain, 1));
        found = id && OCSP_resp_find_status(
                          basic, id, &status, &reason, &revoked, &this_update, &next) == 1;
        OCSP_CERTID_free(id);
    }
    if (!found) return grenache_status_of_another;
    *next_update = grenache_time(next ? next : this_update);
    if (grenache_time(this_update) - STATUS_SKEW > now || *next_update + STATUS_SKEW < now)
        return grenache_status_out_of_date;
    return status;
}

int grenache_ocsp_status(
    const uint8_t *bytes, size_t size, STACK_OF(X509) *chain, X509_STORE *roots, X509_STORE *lists,
    int64_t now, int64_t *next_update) {
    int status = grenache_status_unreadable;
    *next_update = 0;
    if (sk_X509_num(chain) < 2) return grenache_status_unsigned;
    OCSP_RESPONSE *response = d2i_OCSP_RESPONSE(NULL, &bytes, (long)size);
    OCSP_BASICRESP *basic = NULL;
    if (response && OCSP_response_status(response) == OCSP_RESPONSE_STATUS_SUCCESSFUL)
        basic = OCSP_response_get1_basic(response);
    if (basic) status = status_in(basic, chain, roots, lists, now, next_update);
    OCSP_BASICRESP_free(basic);
    OCSP_RESPONSE_free(response);
    return status;
}

int grenache_must_staple(X509 *certificate) {
    int staples = 0;
    TLS_FEATURE *features = X509_get_ext_d2i(certificate, NID_tlsfeature, NULL, NULL);
    for (int index = 0; features && index < sk_ASN1_INTEGER_num(features); index++)
        staples |= ASN1_INTEGER_get(sk_ASN1_INTEGER_value(features, index)) ==
                   TLSEXT_TYPE_status_request;
    TLS_FEATURE_free(features);
    return staples;
}

SSL *grenache_store_ctx_ssl(X509_STORE_CTX *ctx) {
    return X509_STORE_CTX_get_ex_data(ctx, SSL_get_ex_data_X509_STORE_CTX_idx());
}

/* ---- PEM ---- */

static int no_passphrase(char *buffer, int size, int writing, void *user) {
    (void)buffer;
    (void)size;
    (void)writing;
    (void)user;
    return -1;
}

static int give_passphrase(char *buffer, int size, int writing, void *user) {
    (void)writing;
    size_t count = user ? strlen(user) : 0;
    if (!user || count > (size_t)size) return -1;
    memcpy(buffer, user, count);
    return (int)count;
}

X509 *grenache_read_certificate(BIO *bio) {
    return PEM_read_bio_X509(bio, NULL, no_passphrase, NULL);
}

X509_CRL *grenache_read_crl(BIO *bio) {
    return PEM_read_bio_X509_CRL(bio, NULL, no_passphrase, NULL);
}

EVP_PKEY *grenache_read_key(BIO *bio, const char *passphrase) {
    return PEM_read_bio_PrivateKey(bio, NULL, give_passphrase, (void *)(uintptr_t)passphrase);
}

static int take_info(
    OSSL_STORE_INFO *info, STACK_OF(X509) *certificates, EVP_PKEY **key, STACK_OF(X509_CRL) *lists) {
    switch (OSSL_STORE_INFO_get_type(info)) {
    case OSSL_STORE_INFO_CERT: {
        X509 *certificate = OSSL_STORE_INFO_get1_CERT(info);
        if (certificate && sk_X509_push(certificates, certificate)) return 1;
        X509_free(certificate);
        return 0;
    }
    case OSSL_STORE_INFO_PKEY:
        if (key && !*key) *key = OSSL_STORE_INFO_get1_PKEY(info);
        return 1;
    case OSSL_STORE_INFO_CRL: {
        X509_CRL *list = lists ? OSSL_STORE_INFO_get1_CRL(info) : NULL;
        if (!lists || (list && sk_X509_CRL_push(lists, list))) return 1;
        X509_CRL_free(list);
        return 0;
    }
    default:
        return 1;
    }
}

int grenache_load_store(
    BIO *bio, const char *uri, const char *passphrase, STACK_OF(X509) *certificates, EVP_PKEY **key,
    STACK_OF(X509_CRL) *lists) {
    int done = 0;
    void *user = (void *)(uintptr_t)passphrase;
    UI_METHOD *ui = UI_UTIL_wrap_read_pem_callback(give_passphrase, 0);
    OSSL_STORE_CTX *store = NULL;
    if (!ui) return 0;
    store = bio ? OSSL_STORE_attach(bio, "file", NULL, NULL, ui, user, NULL, NULL, NULL)
                : OSSL_STORE_open(uri, ui, user, NULL, NULL);
    if (store) {
        int objects = 0, misses = 0;
        done = 1;
        while (done == 1 && !OSSL_STORE_eof(store)) {
            OSSL_STORE_INFO *info = OSSL_STORE_load(store);
            if (info) {
                done = objects++ < grenache_store_objects_max
                           ? take_info(info, certificates, key, lists)
                           : grenache_store_too_large;
                OSSL_STORE_INFO_free(info);
            } else if (OSSL_STORE_error(store) && ERR_peek_error()) {
                done = 0; /* the end of some stores counts as an error without a reason */
            } else if (misses++ == grenache_store_objects_max) {
                done = grenache_store_too_large;
            }
        }
        OSSL_STORE_close(store);
    }
    UI_destroy_method(ui);
    return done;
}

STACK_OF(X509_CRL) *grenache_lists_new(void) { return sk_X509_CRL_new_null(); }

int grenache_lists_count(STACK_OF(X509_CRL) *lists) { return lists ? sk_X509_CRL_num(lists) : 0; }

X509_CRL *grenache_lists_at(STACK_OF(X509_CRL) *lists, int index) {
    return sk_X509_CRL_value(lists, index);
}

int grenache_revoked_count(X509_CRL *list) {
    STACK_OF(X509_REVOKED) *revoked = X509_CRL_get_REVOKED(list);
    return revoked ? sk_X509_REVOKED_num(revoked) : 0;
}

void grenache_lists_free(STACK_OF(X509_CRL) *lists) { sk_X509_CRL_pop_free(lists, X509_CRL_free); }

int grenache_check_der(int kind, const unsigned char *bytes, long count) {
    X509 *certificate;
    X509_CRL *list;
    PKCS8_PRIV_KEY_INFO *key;
    X509_SIG *encrypted;
    PKCS12 *bundle;
    switch (kind) {
    case grenache_der_certificate:
        certificate = d2i_X509(NULL, &bytes, count);
        X509_free(certificate);
        return certificate != NULL;
    case grenache_der_revocation_list:
        list = d2i_X509_CRL(NULL, &bytes, count);
        X509_CRL_free(list);
        return list != NULL;
    case grenache_der_key:
        key = d2i_PKCS8_PRIV_KEY_INFO(NULL, &bytes, count);
        PKCS8_PRIV_KEY_INFO_free(key);
        return key != NULL;
    case grenache_der_encrypted_key:
        encrypted = d2i_X509_SIG(NULL, &bytes, count);
        X509_SIG_free(encrypted);
        return encrypted != NULL;
    default:
        bundle = d2i_PKCS12(NULL, &bytes, count);
        PKCS12_free(bundle);
        return bundle != NULL;
    }
}

const char *grenache_next_reason(const char **place) {
    int flags = 0;
    const char *data = NULL;
    unsigned long code = ERR_get_error_all(NULL, NULL, NULL, &data, &flags);
    const char *reason = code ? ERR_reason_error_string(code) : NULL;
    *place = flags & ERR_TXT_STRING && data && *data ? data : NULL;
    return code && !reason ? "an error without a name" : reason;
}

int grenache_is_end_of_pem(void) {
    unsigned long error = ERR_peek_last_error();
    if (ERR_GET_LIB(error) != ERR_LIB_PEM || ERR_GET_REASON(error) != PEM_R_NO_START_LINE) return 0;
    ERR_clear_error();
    return 1;
}

/* ---- stacks and names ---- */

int grenache_chain_count(STACK_OF(X509) *chain) { return chain ? sk_X509_num(chain) : 0; }

X509 *grenache_chain_at(STACK_OF(X509) *chain, int index) { return sk_X509_value(chain, index); }

STACK_OF(X509) *grenache_chain_new(void) { return sk_X509_new_null(); }

int grenache_chain_push_der(STACK_OF(X509) *chain, const uint8_t *bytes, size_t size) {
    X509 *certificate = d2i_X509(NULL, &bytes, (long)size);
    if (certificate && sk_X509_push(chain, certificate)) return 1;
    X509_free(certificate);
    return 0;
}

void grenache_chain_free(STACK_OF(X509) *chain) { sk_X509_pop_free(chain, X509_free); }

int grenache_verify(X509_STORE_CTX *verification) {
    int result = X509_verify_cert(verification);
    if (result != 1) return result;
    STACK_OF(X509) *chain = X509_STORE_CTX_get0_chain(verification);
    for (int depth = 1; depth + 1 < sk_X509_num(chain); depth++) {
        X509 *authority = sk_X509_value(chain, depth);
        if (!is_revoked(verification, authority, sk_X509_value(chain, depth + 1))) continue;
        X509_STORE_CTX_set_error(verification, X509_V_ERR_CERT_REVOKED);
        X509_STORE_CTX_set_error_depth(verification, depth);
        X509_STORE_CTX_set_current_cert(verification, authority);
        return 0;
    }
    return 1;
}

int grenache_verify_chain(
    SSL_CTX *ctx, STACK_OF(X509) *chain, int is_client, STACK_OF(X509) **verified,
    struct grenache_chain_fault *fault) {
    int code = X509_V_ERR_OUT_OF_MEM;
    X509_STORE_CTX *verification = X509_STORE_CTX_new();
    *verified = NULL;
    *fault = (struct grenache_chain_fault){0};
    if (!verification || sk_X509_num(chain) == 0) goto done;
    if (!X509_STORE_CTX_init(verification, SSL_CTX_get_cert_store(ctx), sk_X509_value(chain, 0), chain))
        goto done;
    X509_VERIFY_PARAM_set_auth_level(
        X509_STORE_CTX_get0_param(verification), SSL_CTX_get_security_level(ctx));
    if (!X509_STORE_CTX_set_default(verification, is_client ? "ssl_client" : "ssl_server")) goto done;
    if (grenache_verify(verification) == 1) {
        code = X509_V_OK;
        *verified = X509_STORE_CTX_get1_chain(verification);
    } else {
        code = X509_STORE_CTX_get_error(verification);
        fault->depth = X509_STORE_CTX_get_error_depth(verification);
        fault->certificate = X509_STORE_CTX_get_current_cert(verification);
        if (fault->certificate) X509_up_ref(fault->certificate);
    }
done:
    X509_STORE_CTX_free(verification);
    return code;
}

GENERAL_NAMES *grenache_names_of(X509 *certificate) {
    return X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
}

int grenache_names_count(GENERAL_NAMES *names) { return sk_GENERAL_NAME_num(names); }

int grenache_names_at(GENERAL_NAMES *names, int index, const uint8_t **bytes, size_t *size) {
    int kind = 0;
    const ASN1_STRING *string = GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(names, index), &kind);
    *bytes = NULL;
    *size = 0;
    if (string && (kind == GEN_DNS || kind == GEN_URI || kind == GEN_EMAIL || kind == GEN_IPADD)) {
        *bytes = ASN1_STRING_get0_data(string);
        *size = (size_t)ASN1_STRING_length(string);
    }
    return kind;
}

void grenache_names_free(GENERAL_NAMES *names) { GENERAL_NAMES_free(names); }

GENERAL_NAMES *grenache_names_new(void) { return GENERAL_NAMES_new(); }

int grenache_names_add(GENERAL_NAMES *names, int kind, const uint8_t *bytes, size_t size) {
    GENERAL_NAME *name = GENERAL_NAME_new();
    ASN1_STRING *string =
        kind == GEN_IPADD ? ASN1_OCTET_STRING_new() : ASN1_STRING_type_new(V_ASN1_IA5STRING);
    if (!name || !string || !ASN1_STRING_set(string, bytes, (int)size)) {
        GENERAL_NAME_free(name);
        ASN1_STRING_free(string);
        return 0;
    }
    GENERAL_NAME_set0_value(name, kind, string);
    if (sk_GENERAL_NAME_push(names, name)) return 1;
    GENERAL_NAME_free(name);
    return 0;
}

int grenache_set_names(X509 *certificate, GENERAL_NAMES *names) {
    return X509_add1_ext_i2d(certificate, NID_subject_alt_name, names, 0, X509V3_ADD_DEFAULT) == 1;
}

int grenache_add_extension(X509 *certificate, X509 *issuer, int nid, const char *value) {
    X509V3_CTX context;
    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    if (!extension) return 0;
    int done = X509_add_ext(certificate, extension, -1);
    X509_EXTENSION_free(extension);
    return done == 1;
}

size_t grenache_name_text(const X509_NAME *name, char *buffer, size_t size) {
    BIO *bio = BIO_new(BIO_s_mem());
    size_t count = 0;
    if (bio && X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253) >= 0) {
        int got = BIO_read(bio, buffer, (int)size);
        if (got > 0) count = (size_t)got;
    }
    BIO_free(bio);
    return count;
}

int64_t grenache_time(const ASN1_TIME *time) {
    struct tm parts;
    if (!ASN1_TIME_to_tm(time, &parts)) return 0;
    return (int64_t)timegm(&parts);
}

/* Adds an entry for `serial`, as of now. */
static int add_revoked(X509_CRL *list, const ASN1_INTEGER *serial, const ASN1_TIME *now) {
    X509_REVOKED *entry = X509_REVOKED_new();
    if (entry && X509_REVOKED_set_serialNumber(entry, (ASN1_INTEGER *)(uintptr_t)serial) &&
        X509_REVOKED_set_revocationDate(entry, (ASN1_TIME *)(uintptr_t)now) &&
        X509_CRL_add0_revoked(list, entry))
        return 1;
    X509_REVOKED_free(entry);
    return 0;
}

static int copy_revoked(X509_CRL *list, X509_CRL *old) {
    STACK_OF(X509_REVOKED) *entries = old ? X509_CRL_get_REVOKED(old) : NULL;
    for (int index = 0; entries && index < sk_X509_REVOKED_num(entries); index++) {
        X509_REVOKED *copy = X509_REVOKED_dup(sk_X509_REVOKED_value(entries, index));
        if (!copy || !X509_CRL_add0_revoked(list, copy)) {
            X509_REVOKED_free(copy);
            return 0;
        }
    }
    return 1;
}

X509_CRL *grenache_revoke(X509_CRL *old, X509 *issuer, EVP_PKEY *key, X509 *revoked, long seconds) {
    X509_CRL *list = X509_CRL_new();
    ASN1_TIME *now = X509_gmtime_adj(NULL, 0);
    ASN1_TIME *next = X509_gmtime_adj(NULL, seconds);
    X509_REVOKED *known = NULL;
    const ASN1_INTEGER *serial = X509_get0_serialNumber(revoked);
    int done = list && now && next && X509_CRL_set_version(list, 1) &&
               X509_CRL_set_issuer_name(list, X509_get_subject_name(issuer)) &&
               X509_CRL_set1_lastUpdate(list, now) && X509_CRL_set1_nextUpdate(list, next) &&
               copy_revoked(list, old) &&
               (X509_CRL_get0_by_serial(list, &known, (ASN1_INTEGER *)(uintptr_t)serial) == 1 ||
                add_revoked(list, serial, now)) &&
               X509_CRL_sort(list) && X509_CRL_sign(list, key, EVP_sha256()) > 0;
    ASN1_TIME_free(now);
    ASN1_TIME_free(next);
    if (done) return list;
    X509_CRL_free(list);
    return NULL;
}

EVP_PKEY *grenache_new_p256(void) { return EVP_EC_gen("P-256"); }

long grenache_bio_bytes(BIO *bio, const uint8_t **bytes) {
    char *data = NULL;
    long count = BIO_get_mem_data(bio, &data);
    *bytes = (const uint8_t *)data;
    return count;
}
