public import GrenacheFraming

/// The limits and deadlines of an HTTP and WebSocket server.
public struct HTTPServerConfiguration: Hashable, Sendable {
  /// What a request may hold.
  public var http = HTTPLimits()
  /// What a WebSocket message may hold.
  public var webSocket = WebSocketLimits()
  /// The web pages (`https://host`, RFC 6454) whose scripts are served (default none). Browsers name the page
  /// by `Origin`, and any page can have one send requests and open WebSockets with its user's certificate,
  /// or to its user's own host: what names another one is answered with 403. Programs name none,
  /// but for some libraries (Python's `websocket-client` is told `suppress_origin=True`).
  public var allowedOrigins: Set<String> = []
  /// Compression and keep-alive of WebSockets (default: compression for clients that offer it).
  public var webSocketOptions = WebSocketOptions.server
  /// The handshake, stall and close deadlines, and how much output may wait.
  package var stream = ByteStreamLimits()
  /// From a connection's or a request's first byte possible to the end of its head (default 10 s).
  public var headTimeout = Duration.seconds(10)
  /// From then on a body must bring `bodyBytesPerSecondMin` (default 10 s).
  public var bodyGrace = Duration.seconds(10)
  /// The slowest body that is waited for, in bytes a second (default 1 KiB/s).
  public var bodyBytesPerSecondMin = 1 << 10
  /// A body that a handler takes as a stream, in all (default: no limit, since nothing of it is kept).
  public var streamedBodyBytesMax = Int.max
  /// What may wait for the handler of a stream before the client is no longer read from (default
  /// 64 KiB, and what one read brings).
  public var streamBufferBytesMax = 64 << 10
  /// How long a stream may go without a byte in either direction (default 60 s).
  public var streamIdleTimeout = Duration.seconds(60)
  /// How long a handler may take before its request is answered with 503 (default 60 s).
  public var handlerTimeout = Duration.seconds(60)
  /// How long a kept connection may be idle between requests, told to the client in whole seconds
  /// (default 60 s).
  public var idleTimeout = Duration.seconds(60)
  /// How long a server that shuts down keeps an idle connection for a request that may be on its way
  /// (default 1 s).
  public var drainIdleTimeout = Duration.seconds(1)
  /// Whether connections that do not begin with a TLS handshake are served in the clear.
  package var acceptsInsecurePlaintextBesideTLS = false
  /// Open connections of one server, shared out evenly among its loops; what a loop gets beyond its
  /// share is closed at once (default 20,000).
  public var connectionsMax = 20_000
  /// TLS connections of one loop whose first record has not come: for one too many the one that came
  /// first is closed (default 1,024, and at most a quarter of the loop's share of `connectionsMax`, or 64
  /// if that is more).
  public var silentConnectionsMax = 1_024
  /// TLS handshakes at once on one loop, each from its first record on; further connections wait for one
  /// to end, in the order in which they spoke (default 256).
  public var handshakesMax = 256
  /// How long a connection may wait for its turn to shake hands before it is closed (default 10 s).
  public var handshakeQueueTimeout = Duration.seconds(10)
  /// How long a client that shakes hands may leave the server waiting, all of its waits together, while others
  /// wait for their turn: then it is closed, and the slowest first (default 1 s).
  public var handshakeQuietTimeout = Duration.seconds(1)

  /// The defaults.
  public init() {}

  /// At what rate a body has to come.
  var bodyRate: ReceiptRate {
    ReceiptRate(grace: bodyGrace, bytesPerSecondMin: bodyBytesPerSecondMin)
  }
}
