/// What this end offers in the opening handshake and how it notices that the other end is gone.
public struct WebSocketOptions: Hashable, Sendable {
  /// Compression of messages (RFC 7692), when the other end speaks it, too; `nil` for none.
  public var deflate: WebSocketDeflate?
  /// The subprotocols that are spoken (RFC 6455 §1.9), the best first. A server takes the first that
  /// the client offers; with none in common the connection goes on without.
  package var subprotocols: [String] = []
  /// After this time without a byte from the peer it is sent a ping (default 30 s); `nil` for never.
  public var pingInterval: Duration? = .seconds(30)
  /// Without a byte for this long after a ping, the peer is given up (default 20 s).
  public var pongTimeout: Duration = .seconds(20)

  /// No compression, which a server must be asked for: the default of clients.
  public static let client = WebSocketOptions()
  /// Compression for clients that offer it, without context: the default of servers.
  public static let server = WebSocketOptions(deflate: WebSocketDeflate())

  /// The defaults, unless told otherwise.
  public init(
    deflate: WebSocketDeflate? = nil, pingInterval: Duration? = .seconds(30),
    pongTimeout: Duration = .seconds(20)
  ) {
    self.deflate = deflate
    self.pingInterval = pingInterval
    self.pongTimeout = pongTimeout
  }

  package init(deflate: WebSocketDeflate? = nil, subprotocols: [String]) {
    self.deflate = deflate
    self.subprotocols = subprotocols
  }
}

/// Compression of messages by permessage-deflate (RFC 7692).
///
/// Without context each message is compressed by itself, and an idle connection holds no memory for it.
/// Data that mixes secrets with what an attacker chooses should not be compressed: the size tells.
public struct WebSocketDeflate: Hashable, Sendable {
  /// Whether messages refer to earlier ones (default `false`). It makes many small and similar messages
  /// smaller; once used, a connection holds 4 windows and 128 KiB for sending (256 KiB in all with the
  /// largest window) and a window and 8 KiB for receiving (40 KiB).
  public var keepsContext: Bool
  /// The base-two logarithm of the largest window, 8 to 15 (default 15: 32 KiB).
  public var windowBitsMax: Int
  /// Shorter messages are sent as they are (default 1 KiB).
  public var messageBytesMin: Int
  /// 1, the fastest, to 9 (default 1).
  public var level: Int
  /// How many times a message may be larger than what it came as (default 100, then close code 1009);
  /// up to 64 KiB it does not count.
  public var ratioMax: Int

  /// The defaults, unless told otherwise; what lies outside a range is taken to its border.
  public init(
    keepsContext: Bool = false, windowBitsMax: Int = 15, messageBytesMin: Int = 1 << 10,
    level: Int = 1, ratioMax: Int = 100
  ) {
    self.keepsContext = keepsContext
    self.windowBitsMax = min(max(windowBitsMax, 8), 15)
    self.messageBytesMin = messageBytesMin
    self.level = min(max(level, 1), 9)
    self.ratioMax = ratioMax
  }
}
