/*
 * OpenSSL for Swift: what its headers offer as macros only, as functions; the BIO over memory that an
 * event loop lends; and a few calls whose C form Swift cannot use. No policy: every choice is made by
 * the caller.
 *
 * Builds against OpenSSL 3.0 and newer, and needs no guards by version: everything that is called is in
 * 3.0 and deprecated in no later 3.x (it compiles with -DOPENSSL_API_COMPAT=30000
 * -DOPENSSL_NO_DEPRECATED). What newer versions add, such as the hybrid group of 3.5, is asked for by name
 * at run time, by OpenSSL_version_num.
 */
#pragma once

#include <openssl/opensslv.h>
#if OPENSSL_VERSION_NUMBER < 0x30000000L
#error "OpenSSL 3.0 or newer is needed"
#endif

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ocsp.h>
#include <openssl/pem.h>
#include <openssl/provider.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <openssl/store.h>
#include <openssl/ui.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stddef.h>
#include <stdint.h>

/*
 * The windows that one event loop lends to the connection that it is serving right now: ciphertext just
 * received, and room for ciphertext to send. OpenSSL takes all of the input (a partial record stays
 * inside it), so that the windows are free for the next connection after each call.
 */
struct grenache_window {
    const uint8_t *in;
    size_t in_len;
    uint8_t *out;
    size_t out_len;
    size_t out_cap;
    /* Handshake messages that have come; whoever looks sets it back. */
    size_t messages;
};

/*
 * Gives `ssl` a BIO over `window`, for both directions, and has its handshake messages counted there.
 * 1, or 0 without memory.
 */
int grenache_ssl_attach(SSL *ssl, struct grenache_window *window);

/*
 * SSL_read, SSL_write and SSL_do_handshake on an empty error queue.
 * More than 0: the bytes, or 1 for a finished handshake. Otherwise minus what SSL_get_error says.
 */
static inline long grenache_result(SSL *ssl, int result, size_t count) {
    return result == 1 ? (long)count : -(long)SSL_get_error(ssl, result);
}
static inline void grenache_clear_errors(void) {
    if (ERR_peek_error()) ERR_clear_error();
}
static inline long grenache_ssl_read(SSL *ssl, void *buffer, size_t size) {
    size_t count = 0;
    grenache_clear_errors();
    return grenache_result(ssl, SSL_read_ex(ssl, buffer, size, &count), count);
}
static inline long grenache_ssl_write(SSL *ssl, const void *bytes, size_t size) {
    size_t count = 0;
    grenache_clear_errors();
    return grenache_result(ssl, SSL_write_ex(ssl, bytes, size, &count), count);
}
static inline long grenache_ssl_handshake(SSL *ssl) {
    grenache_clear_errors();
    return grenache_result(ssl, SSL_do_handshake(ssl), 1);
}

/* Macros. */
void grenache_ctx_set_mode(SSL_CTX *ctx, long mode);
int grenache_ctx_set_versions(SSL_CTX *ctx, int lowest, int highest);
int grenache_ctx_set_groups(SSL_CTX *ctx, const char *groups);
void grenache_ctx_session_cache_off(SSL_CTX *ctx);
int grenache_ctx_add_chain(SSL_CTX *ctx, X509 *certificate);
int grenache_ssl_set_server_name(SSL *ssl, const char *name);
int grenache_ssl_group(SSL *ssl);
extern const uint64_t grenache_option_no_renegotiation;
extern const uint64_t grenache_option_no_compression;
extern const uint64_t grenache_option_no_ticket;
extern const long grenache_mode_release_buffers;
extern const long grenache_mode_moving_write_buffer;
extern const long grenache_mode_no_auto_chain;

/* Has `choose` called for the name that a client asks for (SNI, RFC 6066 §3). */
void grenache_ctx_on_server_name(SSL_CTX *ctx, int (*choose)(SSL *, int *, void *));
extern const int grenache_server_name_ok;
extern const int grenache_server_name_refused;

/* Has `seal` and `open` called for the keys of session tickets (RFC 8446 §4.6.1). */
typedef int (*grenache_ticket_key)(
    SSL *, unsigned char *, unsigned char *, EVP_CIPHER_CTX *, EVP_MAC_CTX *, int);
void grenache_ctx_on_ticket_key(SSL_CTX *ctx, grenache_ticket_key choose);
/* Sets up AES-256-CBC and HMAC-SHA256 with keys of 32 bytes each. 1 on success. */
int grenache_ticket_keys(
    EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, const uint8_t *cipher_key, const uint8_t *mac_key,
    const unsigned char *iv, int seals);
/* HMAC-SHA256 into 32 bytes. 1 on success. */
int grenache_hmac(const uint8_t *key, size_t size, const uint8_t *bytes, size_t count, uint8_t *mac);
/* A client's sessions are handed to `store` and kept nowhere else. */
void grenache_ctx_on_new_session(SSL_CTX *ctx, int (*store)(SSL *, SSL_SESSION *));

/* Certificate status (OCSP stapling, RFC 6066 §8). */
void grenache_ctx_on_status(SSL_CTX *ctx, int (*check)(SSL *, void *));
void grenache_ssl_ask_status(SSL *ssl);
long grenache_ssl_status(SSL *ssl, const uint8_t **bytes);
/* Has a copy of `bytes` sent. 1 on success. */
int grenache_ssl_set_status(SSL *ssl, const uint8_t *bytes, size_t size);
enum {
    grenache_status_unreadable = -1,
    grenache_status_unsigned = -2,
    grenache_status_of_another = -3,
    grenache_status_out_of_date = -4,
};
/*
 * What the OCSP response (RFC 6960) says of the first certificate of `chain`, issued by the second, at
 * `now`: V_OCSP_CERTSTATUS_*, or one of the above. Who signed it has to be vouched for by `roots`,
 * which check no lists, and not be revoked by those of `lists`, which may be NULL. `next_update` is its end;
 * without one it is good for five minutes. In seconds since 1970.
 */
int grenache_ocsp_status(
    const uint8_t *bytes, size_t size, STACK_OF(X509) *chain, X509_STORE *roots,
    X509_STORE *lists, int64_t now, int64_t *next_update);
/* Whether the certificate says that its status must be stapled (RFC 7633). */
int grenache_must_staple(X509 *certificate);

/* The SSL behind a verification in progress. */
SSL *grenache_store_ctx_ssl(X509_STORE_CTX *ctx);

/* Reading PEM from memory; NULL at the end or on an error, which is then in the queue. */
X509 *grenache_read_certificate(BIO *bio);
X509_CRL *grenache_read_crl(BIO *bio);
/* `passphrase` may be NULL: an encrypted key then fails instead of asking a terminal. */
EVP_PKEY *grenache_read_key(BIO *bio, const char *passphrase);
/*
 * Loads what a store holds, in its order: DER or PKCS#12 in `bio`, or, without one, what `uri` names
 * (OSSL_STORE, which asks the providers). `key` and `lists` may be NULL. 1, 0 with the reason in the
 * queue, or `grenache_store_too_large`. `passphrase` may be NULL: what is encrypted then fails instead of asking a terminal.
 */
enum { grenache_store_objects_max = 1000, grenache_store_too_large = 2 };
int grenache_load_store(
    BIO *bio, const char *uri, const char *passphrase, STACK_OF(X509) *certificates, EVP_PKEY **key,
    STACK_OF(X509_CRL) *lists);
STACK_OF(X509_CRL) *grenache_lists_new(void);
int grenache_lists_count(STACK_OF(X509_CRL) *lists);
X509_CRL *grenache_lists_at(STACK_OF(X509_CRL) *lists, int index);
int grenache_revoked_count(X509_CRL *list);
void grenache_lists_free(STACK_OF(X509_CRL) *lists);

/* What DER is read as, to learn what is wrong with it. */
enum {
    grenache_der_certificate,
    grenache_der_revocation_list,
    grenache_der_key,
    grenache_der_encrypted_key,
    grenache_der_bundle
};
/* Whether `bytes` are one of that kind; if not, the queue says which field is not. */
int grenache_check_der(int kind, const unsigned char *bytes, long count);
/* The oldest error's reason and, if it has one, its place; takes it from the queue. NULL for none. */
const char *grenache_next_reason(const char **place);

/* Whether the queue says only that the input has no more PEM blocks; empties the queue then. */
int grenache_is_end_of_pem(void);

/* Stacks, whose functions are macros. */
int grenache_chain_count(STACK_OF(X509) *chain);
X509 *grenache_chain_at(STACK_OF(X509) *chain, int index);

STACK_OF(X509) *grenache_chain_new(void);
int grenache_chain_push_der(STACK_OF(X509) *chain, const uint8_t *bytes, size_t size);
void grenache_chain_free(STACK_OF(X509) *chain);

/*
 * X509_verify_cert, and then the authorities between leaf and root against the revocation lists that
 * their issuers have in the store; OpenSSL itself wants a list of every issuer, or looks at the leaf
 * only.
 */
int grenache_verify(X509_STORE_CTX *verification);

/* Where a chain is wrong: how far above the leaf, and the certificate there (to be freed, may be NULL). */
struct grenache_chain_fault {
    int depth;
    X509 *certificate;
};

/*
 * Verifies a chain, leaf first, against the store of `ctx` as a handshake would: as that of a client or
 * of a server. X509_V_OK with the chain as it was verified in `verified`, to be freed, or what is wrong
 * and where.
 */
int grenache_verify_chain(
    SSL_CTX *ctx, STACK_OF(X509) *chain, int is_client, STACK_OF(X509) **verified,
    struct grenache_chain_fault *fault);

/* Subject alternative names: the kind is a GEN_* number; the bytes belong to `names`. */
GENERAL_NAMES *grenache_names_of(X509 *certificate);
int grenache_names_count(GENERAL_NAMES *names);
int grenache_names_at(GENERAL_NAMES *names, int index, const uint8_t **bytes, size_t *size);
void grenache_names_free(GENERAL_NAMES *names);
GENERAL_NAMES *grenache_names_new(void);
int grenache_names_add(GENERAL_NAMES *names, int kind, const uint8_t *bytes, size_t size);
int grenache_set_names(X509 *certificate, GENERAL_NAMES *names);

/* Adds an extension given in the notation of openssl.cnf. 1 on success. */
int grenache_add_extension(X509 *certificate, X509 *issuer, int nid, const char *value);

/* Prints a name by RFC 2253 into a new memory BIO's bytes; 0 on failure. For display only. */
size_t grenache_name_text(const X509_NAME *name, char *buffer, size_t size);

/* Seconds since 1970 of an ASN.1 time; 0 on failure. */
int64_t grenache_time(const ASN1_TIME *time);

/*
 * A new revocation list of `issuer`, signed with its key: what `old` (which may be NULL) revokes, and
 * `revoked`. NULL on failure.
 */
X509_CRL *grenache_revoke(X509_CRL *old, X509 *issuer, EVP_PKEY *key, X509 *revoked, long seconds);

/* A new P-256 key. */
EVP_PKEY *grenache_new_p256(void);

/* The bytes that a memory BIO holds. */
long grenache_bio_bytes(BIO *bio, const uint8_t **bytes);

/*
 * Ed25519 by an expanded private key: the secret scalar and the prefix, which together are the SHA-512
 * of the seed, clamped (RFC 8032 section 5.1.5). 1 on success.
 */
int grenache_ed25519_public_key(const uint8_t key[64], uint8_t public_key[32]);
int grenache_ed25519_sign(
    const uint8_t key[64], const uint8_t *message, size_t size, uint8_t signature[64]);
