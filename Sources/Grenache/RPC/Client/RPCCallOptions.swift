public import GrenacheTransport

/// How one call is made, where it differs from the client's configuration.
public struct RPCCallOptions: Hashable, Sendable {
  /// How long the call may take on the whole (default: the client's `callTimeout`).
  public var timeout: Duration?
  /// How long one worker may take, of several that an idempotent call is sent to one after the other
  /// (default: as long as the call).
  public var attemptTimeout: Duration?
  /// Whether the call may be carried out more than once: then it is sent to another worker when a
  /// connection breaks or an attempt takes too long, within the client's retry budget (default no).
  public var isIdempotent = false
  /// After this an idempotent call is sent to a second worker as well, within the retry budget; the
  /// first answer counts and the other call is cancelled (default: never).
  public var hedgeDelay: Duration?
  /// What the handler sees beside the payload, up to `RPCCallOptions.metadataEntriesMax` entries and
  /// `metadataBytesMax` bytes as it is sent; existing workers do not see it.
  public var metadata: [String: String] = [:]
  /// The one worker to call; without it, one that the lookup finds.
  public var worker: Endpoint?

  /// Entries of metadata that a call may have.
  public static let metadataEntriesMax = 32
  /// Bytes that a call's metadata may have as it is sent, a JSON object: over HTTPS it is one line of the
  /// request's head, of which servers take 8 KiB with the name of the field.
  public static let metadataBytesMax = 8_000

  /// A call that is sent once and takes the client's time, unless told otherwise.
  public init(
    timeout: Duration? = nil, attemptTimeout: Duration? = nil, isIdempotent: Bool = false,
    hedgeDelay: Duration? = nil, metadata: [String: String] = [:], worker: Endpoint? = nil
  ) {
    self.timeout = timeout
    self.attemptTimeout = attemptTimeout
    self.isIdempotent = isIdempotent
    self.hedgeDelay = hedgeDelay
    self.metadata = metadata
    self.worker = worker
  }

  /// A call that may be carried out more than once.
  public static var idempotent: RPCCallOptions { RPCCallOptions(isIdempotent: true) }

  /// Whether the metadata is within its limits.
  var hasValidMetadata: Bool {
    if metadata.isEmpty { return true }
    guard metadata.count <= Self.metadataEntriesMax else { return false }
    let bytes = metadata.reduce(0) { $0 + $1.key.utf8.count + $1.value.utf8.count }
    if bytes > Self.metadataBytesMax { return false }
    // No byte of a text takes more than six as JSON, and an entry six beside its texts.
    if 6 * (bytes + metadata.count) < Self.metadataBytesMax { return true }
    var element: [UInt8] = []
    RPCCallContext.append(metadata: metadata, to: &element)
    return element.count <= Self.metadataBytesMax
  }
}
