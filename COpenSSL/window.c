#include "COpenSSL.h"

#include <pthread.h>
#include <string.h>

/* ---- the BIO over lent memory ---- */

static int window_read(BIO *bio, char *to, size_t size, size_t *count) {
    struct grenache_window *window = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (window->in_len == 0) {
        *count = 0;
        BIO_set_retry_read(bio);
        return 0;
    }
    if (size > window->in_len) size = window->in_len;
    memcpy(to, window->in, size);
    window->in += size;
    window->in_len -= size;
    *count = size;
    return 1;
}

static int window_write(BIO *bio, const char *from, size_t size, size_t *count) {
    struct grenache_window *window = BIO_get_data(bio);
    size_t room = window->out_cap - window->out_len;
    BIO_clear_retry_flags(bio);
    if (room == 0) {
        *count = 0;
        BIO_set_retry_write(bio);
        return 0;
    }
    if (size > room) size = room;
    memcpy(window->out + window->out_len, from, size);
    window->out_len += size;
    *count = size;
    return 1;
}

static long window_ctrl(BIO *bio, int command, long number, void *pointer) {
    (void)bio;
    (void)number;
    (void)pointer;
    return command == BIO_CTRL_FLUSH; /* the loop sends */
}

static int window_create(BIO *bio) {
    BIO_set_init(bio, 1);
    return 1;
}

static int window_destroy(BIO *bio) {
    (void)bio;
    return 1;
}

static BIO_METHOD *window_method;
static pthread_once_t window_once = PTHREAD_ONCE_INIT;

static void make_window_method(void) {
    BIO_METHOD *method =
        BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "grenache window");
    if (!method) return;
    BIO_meth_set_read_ex(method, window_read);
    BIO_meth_set_write_ex(method, window_write);
    BIO_meth_set_ctrl(method, window_ctrl);
    BIO_meth_set_create(method, window_create);
    BIO_meth_set_destroy(method, window_destroy);
    window_method = method;
}

static void count_message(
    int is_sent, int version, int type, const void *bytes, size_t size, SSL *ssl, void *window) {
    (void)version;
    (void)bytes;
    (void)size;
    (void)ssl;
    if (!is_sent && type == SSL3_RT_HANDSHAKE) ((struct grenache_window *)window)->messages++;
}

int grenache_ssl_attach(SSL *ssl, struct grenache_window *window) {
    pthread_once(&window_once, make_window_method);
    BIO *bio = window_method ? BIO_new(window_method) : NULL;
    if (!bio) return 0;
    BIO_set_data(bio, window);
    SSL_set_bio(ssl, bio, bio);
    SSL_set_msg_callback(ssl, count_message);
    SSL_set_msg_callback_arg(ssl, window);
    return 1;
}
