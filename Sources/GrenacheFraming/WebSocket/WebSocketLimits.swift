/// What a WebSocket connection may bring; what exceeds it closes the connection.
public struct WebSocketLimits: Hashable, Sendable {
  /// A message, all fragments together (default 1 MiB, then close code 1009).
  public var messageBytesMax: Int
  /// The fragments of one message (default 128, then 1008).
  public var fragmentsMax: Int
  /// Control frames within `controlWindow` (default 100, then 1008).
  public var controlFramesMax: Int
  /// The time in which control frames are counted (default 10 s).
  public var controlWindow: Duration
  /// How long a message that has begun may take before `messageBytesPerSecondMin` counts (default 10 s).
  public var messageGrace: Duration
  /// What has to come of such a message, a second, on the whole (default 1 KiB, then 1008).
  public var messageBytesPerSecondMin: Int

  /// The defaults, unless told otherwise.
  public init(
    messageBytesMax: Int = 1 << 20, fragmentsMax: Int = 128, controlFramesMax: Int = 100,
    controlWindow: Duration = .seconds(10), messageGrace: Duration = .seconds(10),
    messageBytesPerSecondMin: Int = 1 << 10
  ) {
    self.messageBytesMax = messageBytesMax
    self.fragmentsMax = fragmentsMax
    self.controlFramesMax = controlFramesMax
    self.controlWindow = controlWindow
    self.messageGrace = messageGrace
    self.messageBytesPerSecondMin = messageBytesPerSecondMin
  }

  /// At what rate a message has to come.
  package var messageRate: ReceiptRate {
    ReceiptRate(grace: messageGrace, bytesPerSecondMin: messageBytesPerSecondMin)
  }
}
