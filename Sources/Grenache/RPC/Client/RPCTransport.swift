/// What brings a client's calls to the workers.
public struct RPCTransport: Hashable, Sendable, CustomStringConvertible {
  /// The transport's name.
  public let description: String

  /// A WebSocket over TLS that many calls share; in the clear on a plaintext link.
  public static let wss = RPCTransport(description: "wss")
  /// A POST over HTTPS for each call, over kept connections; in the clear on a plaintext link.
  public static let https = RPCTransport(description: "https")
}
