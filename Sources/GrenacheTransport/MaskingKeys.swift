internal import GrenacheIO
internal import GrenacheTLS

/// Unpredictable masking keys (RFC 6455 §5.3), drawn from the system's generator in bulk.
final class MaskingKeys {
  private var generator = SecureRandomNumberGenerator()

  static func of(_ loop: isolated EventLoop) -> MaskingKeys {
    loop.core.local(MaskingKeys.self) { MaskingKeys() }
  }

  func next() -> UInt32 {
    UInt32(truncatingIfNeeded: generator.next())
  }
}
