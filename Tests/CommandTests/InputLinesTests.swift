import Foundation
import Glibc
import GrenacheCommandSupport
import TestSupport
import Testing

@Suite("Lines of standard input", .timeLimit(.minutes(1)))
struct InputLinesTests {
  /// A pipe in messages: each write is one read.
  private struct Messages {
    let reader: Int32
    let writer: Int32

    init() throws {
      var pair: [Int32] = [0, 0]
      try #require(socketpair(AF_UNIX, Int32(SOCK_SEQPACKET.rawValue), 0, &pair) == 0)
      (reader, writer) = (pair[0], pair[1])
    }

    func write(_ bytes: some Collection<UInt8>) {
      let bytes = Array(bytes)
      #expect(Glibc.write(writer, bytes, bytes.count) == bytes.count)
    }

    /// Whether something has been written that nobody has read.
    var isWaiting: Bool {
      var poll = pollfd(fd: reader, events: Int16(POLLIN), revents: 0)
      return Glibc.poll(&poll, 1, 0) == 1 && poll.revents & Int16(POLLIN) != 0
    }

    func closeWriter() { close(writer) }
    func closeReader() { close(reader) }
  }

  private func lines(
    of parts: [[UInt8]], lineBytesMax: Int = InputLines.lineBytesMaxDefault
  ) async throws -> [String] {
    let input = try Messages()
    defer { input.closeReader() }
    for part in parts { input.write(part) }
    input.closeWriter()
    var lines: [String] = []
    for try await line in InputLines(of: input.reader, lineBytesMax: lineBytesMax) {
      lines.append(line)
    }
    return lines
  }

  @Test("every split gives the same lines")
  func split() async throws {
    let text = Array("one\n\ntwo\r\n\r\nthree \u{e9}\nfour".utf8)
    let expected = ["one", "", "two", "", "three \u{e9}", "four"]
    #expect(try await lines(of: [text]) == expected)
    for cut in 1..<text.count {
      #expect(try await lines(of: [Array(text[..<cut]), Array(text[cut...])]) == expected)
    }
    #expect(try await lines(of: text.map { [$0] }) == expected)
    #expect(try await lines(of: []) == [])
    #expect(try await lines(of: [Array("\n".utf8)]) == [""])
  }

  @Test("a line of the limit is one, and one byte more is an error that names it")
  func limit() async throws {
    let full = [UInt8](repeating: UInt8(ascii: "x"), count: 10)
    for end in ["", "\n", "\r\n"] {
      let read = try await lines(of: [[0x61, 0x0a], full, Array(end.utf8)], lineBytesMax: 10)
      #expect(read.last == String(repeating: "x", count: 10))
    }
    for end in ["", "\n", "\r\n", "xxxxxxxxxx"] {
      let error = await #expect(throws: InputLines.Failure.self) {
        try await lines(of: [[0x61, 0x0a], full + [0x78], Array(end.utf8)], lineBytesMax: 10)
      }
      #expect(error?.code == .lineTooLong(bytesMax: 10) && error?.line == 2)
      #expect(error?.description == "line 2 of the input has more than 10 bytes")
    }
  }

  @Test("behind a line that is too long the next one can be asked for, wherever it was split")
  func behindLongLine() async throws {
    let text = Array("a\nxxxxxxxxxxxxxxxxxxxx\r\nb\nyyyyyyyyyyyyyyyyyyyy".utf8)
    for cut in 1..<text.count {
      let input = try Messages()
      defer { input.closeReader() }
      input.write(text[..<cut])
      input.write(text[cut...])
      input.closeWriter()
      var iterator = InputLines(of: input.reader, lineBytesMax: 10).makeAsyncIterator()
      var (lines, faults) = ([String](), [Int]())
      while true {
        do {
          guard let line = try await iterator.next() else { break }
          lines.append(line)
        } catch {
          #expect(error.code == .lineTooLong(bytesMax: 10))
          faults.append(error.line)
        }
      }
      #expect(lines == ["a", "b"] && faults == [2, 4], "\(cut)")
    }
  }

  @Test("nothing is read before it is asked for: whoever writes has to wait")
  func backPressure() async throws {
    let input = try Messages()
    defer { input.closeReader() }
    var iterator = InputLines(of: input.reader).makeAsyncIterator()
    input.write("one\ntwo\n".utf8)
    input.write("three\n".utf8)
    let (first, second) = (try await iterator.next(), try await iterator.next())
    #expect(first == "one" && second == "two")
    #expect(input.isWaiting)
    let third = try await iterator.next()
    #expect(third == "three" && !input.isWaiting)
    input.closeWriter()
    let end = try await iterator.next()
    #expect(end == nil)
  }

  @Test("a task that is cancelled waits no more")
  func cancellation() async throws {
    let input = try Messages()
    let task = Task { try await lines(of: input) }
    input.write("one\n".utf8)
    task.cancel()
    #expect(try await task.value.count <= 1)
    input.closeWriter()
    input.closeReader()
  }

  private func lines(of input: Messages) async throws -> [String] {
    var lines: [String] = []
    for try await line in InputLines(of: input.reader) { lines.append(line) }
    return lines
  }

  @Test("an input that cannot be read is an error with the system's number")
  func unreadable() async throws {
    let error = await #expect(throws: InputLines.Failure.self) {
      for try await _ in InputLines(of: -1) {}
    }
    #expect(error?.code == .notReadable(number: EBADF))
  }
}
