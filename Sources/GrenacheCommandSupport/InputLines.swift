internal import Glibc

/// The lines of standard input, each when it is asked for: while nobody asks, nothing is read, and whoever
/// writes has to wait.
package struct InputLines: AsyncSequence, Sendable {
  /// Why there is no next line.
  package struct Failure: Error, Hashable, Sendable, CustomStringConvertible {
    package enum Code: Hashable, Sendable {
      /// The line has more bytes than it may have; the one behind it can be asked for.
      case lineTooLong(bytesMax: Int)
      /// The line is no text in UTF-8; the one behind it can be asked for.
      case notText
      /// The input cannot be read; the number is the system's.
      case notReadable(number: Int32)
    }
    package var code: Code
    /// The line, counted from 1.
    package var line: Int

    package var description: String {
      switch code {
      case .lineTooLong(let bytesMax): "line \(line) of the input has more than \(bytesMax) bytes"
      case .notText: "line \(line) of the input is no text in UTF-8"
      case .notReadable(let number):
        "line \(line) of the input cannot be read: \(StandardStreams.text(ofError: number))"
      }
    }
  }

  /// The most bytes of a line, without its end (256 KiB: less than what may wait for one
  /// subscriber).
  package static let lineBytesMaxDefault = 256 << 10
  /// The most bytes that are read at once.
  static let readBytesMax = 64 << 10

  private let descriptor: Int32
  private let lineBytesMax: Int

  package init(
    of descriptor: Int32 = STDIN_FILENO, lineBytesMax: Int = Self.lineBytesMaxDefault
  ) {
    self.descriptor = descriptor
    self.lineBytesMax = lineBytesMax
  }

  package func makeAsyncIterator() -> Iterator {
    Iterator(descriptor: descriptor, lineBytesMax: lineBytesMax)
  }

  /// Gives one line after the other, without line feed and the carriage return before it.
  package struct Iterator: AsyncIteratorProtocol {
    fileprivate let descriptor: Int32
    fileprivate let lineBytesMax: Int
    /// What was read and not given; a line begins at `start`, and has no end before `searched`.
    private var buffer: [UInt8] = []
    private var start = 0
    private var searched = 0
    private var isAtEnd = false
    private var line = 0
    /// Whether what comes up to the next line feed belongs to a line that was too long.
    private var isInLongLine = false

    fileprivate init(descriptor: Int32, lineBytesMax: Int) {
      self.descriptor = descriptor
      self.lineBytesMax = lineBytesMax
    }

    /// - Returns: `nil` at the end of the input.
    package mutating func next() async throws(Failure) -> String? {
      line += 1
      while isInLongLine { try await skipLongLine() }
      while true {
        if let end = buffer[searched...].firstIndex(of: UInt8(ascii: "\n")) {
          defer { (start, searched) = (end + 1, end + 1) }
          return try text(upTo: end)
        }
        searched = buffer.count
        // With a carriage return, which may belong to the end of the line, it may be one byte longer.
        guard buffer.count - start <= lineBytesMax + 1 else {
          isInLongLine = true
          throw tooLong
        }
        if isAtEnd {
          guard start < buffer.count else { return nil }
          defer { start = buffer.count }
          return try text(upTo: buffer.count)
        }
        try await readMore()
      }
    }

    private mutating func skipLongLine() async throws(Failure) {
      let end = buffer[start...].firstIndex(of: UInt8(ascii: "\n"))
      start = end.map { $0 + 1 } ?? buffer.count
      searched = start
      isInLongLine = end == nil && !isAtEnd
      if isInLongLine { try await readMore() }
    }

    private var tooLong: Failure {
      Failure(code: .lineTooLong(bytesMax: lineBytesMax), line: line)
    }

    private func text(upTo end: Int) throws(Failure) -> String {
      var line = buffer[start..<end]
      if end < buffer.count, line.last == UInt8(ascii: "\r") { line.removeLast() }
      guard line.count <= lineBytesMax else { throw tooLong }
      guard let text = String(validating: line, as: UTF8.self) else {
        throw Failure(code: .notText, line: self.line)
      }
      return text
    }

    private mutating func readMore() async throws(Failure) {
      buffer.removeFirst(start)
      searched -= start
      start = 0
      do {
        let bytes = try await BlockingReader.read(descriptor, bytesMax: InputLines.readBytesMax)
        isAtEnd = bytes.isEmpty
        buffer += bytes
      } catch {
        throw Failure(code: .notReadable(number: error.number), line: line)
      }
    }
  }
}
