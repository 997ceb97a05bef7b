/// What an HTTP message may hold; what exceeds it is refused before it is buffered.
public struct HTTPLimits: Hashable, Sendable {
  /// A whole head: start line, field lines and the empty line (default 16 KiB, then status 431).
  public var headBytesMax: Int
  /// Field lines of a head (default 100, then 431).
  public var fieldsMax: Int
  /// One line of a head (default 8 KiB, then 414 for a request line, else 431).
  public var lineBytesMax: Int
  /// A body, decoded (default 1 MiB, then 413).
  public var bodyBytesMax: Int
  /// One chunk-size line with its extensions (default 256 bytes, then 400).
  public var chunkLineBytesMax: Int
  /// The trailer section of a chunked body (default 4 KiB, then 431).
  public var trailerBytesMax: Int

  /// The defaults, unless told otherwise.
  public init(
    headBytesMax: Int = 16 << 10, fieldsMax: Int = 100, lineBytesMax: Int = 8 << 10,
    bodyBytesMax: Int = 1 << 20, chunkLineBytesMax: Int = 256, trailerBytesMax: Int = 4 << 10
  ) {
    self.headBytesMax = headBytesMax
    self.fieldsMax = fieldsMax
    self.lineBytesMax = lineBytesMax
    self.bodyBytesMax = bodyBytesMax
    self.chunkLineBytesMax = chunkLineBytesMax
    self.trailerBytesMax = trailerBytesMax
  }
}
