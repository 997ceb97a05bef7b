/// Compressed bytes that are none, or that hold more than they may.
package struct CompressionError: Error, Hashable, Sendable, CustomStringConvertible {
  /// What went wrong; new codes may come.
  package struct Code: Hashable, Sendable {
    let name: String

    /// The bytes are no compressed stream, or their checksum is wrong.
    package static let invalid = Code(name: "invalid")
    /// The bytes ended before the stream did.
    package static let truncated = Code(name: "truncated")
    /// Something follows the end of the stream.
    package static let trailingBytes = Code(name: "trailingBytes")
    /// More comes out than the limit allows, or more than the input's size makes plausible.
    package static let tooLarge = Code(name: "tooLarge")
    /// No memory for the stream: this side's fault, and passing.
    package static let outOfMemory = Code(name: "outOfMemory")
  }

  /// What went wrong.
  package var code: Code
  /// One line for a person.
  package var message: String

  init(_ code: Code, _ message: String) {
    self.code = code
    self.message = message
  }

  /// The status for a request whose body this is (RFC 9110 §15.5.14).
  package var statusHint: Int {
    if code == .tooLarge { return 413 }
    return code == .outOfMemory ? 503 : 400
  }

  package var description: String { message }

  static let outOfMemory = CompressionError(.outOfMemory, "no memory for a compression stream")
}
