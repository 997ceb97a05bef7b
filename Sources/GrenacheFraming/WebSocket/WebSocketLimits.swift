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

  /// The defaults, unless told otherwise.
  public init(
    messageBytesMax: Int = 1 << 20, fragmentsMax: Int = 128, controlFramesMax: Int = 100,
    controlWindow: Duration = .seconds(10)
  ) {
    self.messageBytesMax = messageBytesMax
    self.fragmentsMax = fragmentsMax
    self.controlFramesMax = controlFramesMax
    self.controlWindow = controlWindow
  }
}
