/*
 * Ed25519 (RFC 8032) with expanded private keys, which OpenSSL's own interface does not take: it wants
 * the seed, and the seed cannot be had from what it was expanded to.
 *
 * The one operation of the curve that signing needs, a multiple of the base point, is OpenSSL's ladder
 * for secret scalars over the short Weierstrass form of the same curve ("Wei25519"). The result goes
 * back by way of the Montgomery form (RFC 7748 section 4.1):
 *
 *     u = X - A/3, v = Y;  x = sqrt(-486664) u/v, y = (u - 1)/(u + 1)
 */
#include "COpenSSL.h"

#include <openssl/bn.h>
#include <openssl/ec.h>
#include <string.h>

/* 2^255 - 19 */
static const char field_prime[] =
    "7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffed";
static const char coefficient_a[] =
    "2aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa984914a144";
static const char coefficient_b[] =
    "7b425ed097b425ed097b425ed097b425ed097b425ed097b4260b5e9c7710c864";
static const char base_x[] =
    "2aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaad245a";
static const char base_y[] =
    "20ae19a1b8a086b4e01edd2c7748d14c923d4d7e6d7c61b229e9c5a27eced3d9";
/* 2^252 + 27742317777372353535851937790883648493 */
static const char group_order[] =
    "1000000000000000000000000000000014def9dea2f79cd65812631a5cf5d3ed";
/* 486662 / 3 */
static const char third_of_a[] =
    "2aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaad2451";
/* The root of -486664 that takes the base point of RFC 7748 to that of RFC 8032. */
static const char root[] = "70d9120b9f5ff9442d84f723fc03b0813a5e2c2eb482e57d3391fb5500ba81e7";

struct curve {
    BN_CTX *scratch;
    EC_GROUP *group;
    BIGNUM *p, *order, *third, *root;
};

static void curve_free(struct curve *c) {
    EC_GROUP_free(c->group);
    BN_free(c->p);
    BN_free(c->order);
    BN_free(c->third);
    BN_free(c->root);
    BN_CTX_free(c->scratch);
}

/* 1, or 0 without memory; to be freed in either case. */
static int curve_make(struct curve *c) {
    BIGNUM *a = NULL, *b = NULL, *x = NULL, *y = NULL, *cofactor = BN_new();
    EC_POINT *base = NULL;
    memset(c, 0, sizeof *c);
    c->scratch = BN_CTX_secure_new();
    int done = c->scratch && cofactor && BN_set_word(cofactor, 8) && BN_hex2bn(&c->p, field_prime)
        && BN_hex2bn(&c->order, group_order) && BN_hex2bn(&c->third, third_of_a)
        && BN_hex2bn(&c->root, root) && BN_hex2bn(&a, coefficient_a)
        && BN_hex2bn(&b, coefficient_b) && BN_hex2bn(&x, base_x) && BN_hex2bn(&y, base_y)
        && (c->group = EC_GROUP_new_curve_GFp(c->p, a, b, c->scratch))
        && (base = EC_POINT_new(c->group))
        && EC_POINT_set_affine_coordinates(c->group, base, x, y, c->scratch)
        && EC_GROUP_set_generator(c->group, base, c->order, cofactor);
    EC_POINT_free(base);
    BN_free(a);
    BN_free(b);
    BN_free(x);
    BN_free(y);
    BN_free(cofactor);
    return done;
}

/* The encoding (RFC 8032 section 5.1.2) of a multiple, neither 0 nor the order, of the base point. */
static int multiple_of_base(const struct curve *c, const BIGNUM *scalar, uint8_t encoded[32]) {
    EC_POINT *point = EC_POINT_new(c->group);
    BN_CTX_start(c->scratch);
    BIGNUM *u = BN_CTX_get(c->scratch), *v = BN_CTX_get(c->scratch);
    BIGNUM *x = BN_CTX_get(c->scratch), *y = BN_CTX_get(c->scratch);
    int done = point && y && EC_POINT_mul(c->group, point, scalar, NULL, NULL, c->scratch)
        && EC_POINT_get_affine_coordinates(c->group, point, u, v, c->scratch)
        && BN_mod_sub(u, u, c->third, c->p, c->scratch)
        && BN_mod_inverse(x, v, c->p, c->scratch) && BN_mod_mul(x, x, u, c->p, c->scratch)
        && BN_mod_mul(x, x, c->root, c->p, c->scratch)
        && BN_copy(v, u) && BN_add_word(v, 1) && BN_sub_word(u, 1)
        && BN_mod_inverse(y, v, c->p, c->scratch) && BN_mod_mul(y, y, u, c->p, c->scratch)
        && BN_bn2lebinpad(y, encoded, 32) == 32;
    if (done && BN_is_odd(x)) encoded[31] |= 0x80;
    BN_CTX_end(c->scratch);
    EC_POINT_free(point);
    return done;
}

/* The number modulo the order that 64 bytes of a digest stand for. */
static int scalar_of_digest(const struct curve *c, EVP_MD_CTX *digest, BIGNUM *scalar) {
    uint8_t bytes[64];
    int done = EVP_DigestFinal_ex(digest, bytes, NULL) == 1
        && BN_lebin2bn(bytes, sizeof bytes, scalar)
        && BN_nnmod(scalar, scalar, c->order, c->scratch);
    OPENSSL_cleanse(bytes, sizeof bytes);
    return done;
}

/* The secret scalar of an expanded key, modulo the order: a multiple of the base point is the same. */
static int secret_scalar(const struct curve *c, const uint8_t key[64], BIGNUM *scalar) {
    BN_set_flags(scalar, BN_FLG_CONSTTIME);
    return BN_lebin2bn(key, 32, scalar) && BN_nnmod(scalar, scalar, c->order, c->scratch)
        && !BN_is_zero(scalar);
}

int grenache_ed25519_public_key(const uint8_t key[64], uint8_t public_key[32]) {
    struct curve c;
    BIGNUM *scalar = BN_secure_new();
    int done = curve_make(&c) && scalar && secret_scalar(&c, key, scalar)
        && multiple_of_base(&c, scalar, public_key);
    BN_clear_free(scalar);
    curve_free(&c);
    ERR_clear_error();
    return done;
}

int grenache_ed25519_sign(
    const uint8_t key[64], const uint8_t *message, size_t size, uint8_t signature[64]) {
    struct curve c;
    uint8_t public_key[32];
    BIGNUM *a = BN_secure_new(), *r = BN_secure_new(), *s = BN_secure_new();
    EVP_MD_CTX *digest = EVP_MD_CTX_new();
    int done = curve_make(&c) && a && r && s && digest && secret_scalar(&c, key, a)
        && multiple_of_base(&c, a, public_key);
    if (done) BN_set_flags(r, BN_FLG_CONSTTIME);
    /* r = H(prefix, message); R = rB; s = r + H(R, A, message) a (RFC 8032 section 5.1.6). */
    done = done && EVP_DigestInit_ex(digest, EVP_sha512(), NULL)
        && EVP_DigestUpdate(digest, key + 32, 32) && EVP_DigestUpdate(digest, message, size)
        && scalar_of_digest(&c, digest, r) && !BN_is_zero(r)
        && multiple_of_base(&c, r, signature)
        && EVP_DigestInit_ex(digest, EVP_sha512(), NULL)
        && EVP_DigestUpdate(digest, signature, 32) && EVP_DigestUpdate(digest, public_key, 32)
        && EVP_DigestUpdate(digest, message, size) && scalar_of_digest(&c, digest, s)
        && BN_mod_mul(s, s, a, c.order, c.scratch) && BN_mod_add(s, s, r, c.order, c.scratch)
        && BN_bn2lebinpad(s, signature + 32, 32) == 32;
    EVP_MD_CTX_free(digest);
    BN_clear_free(a);
    BN_clear_free(r);
    BN_clear_free(s);
    curve_free(&c);
    ERR_clear_error();
    return done;
}
