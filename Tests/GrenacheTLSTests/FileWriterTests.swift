import Foundation
import TestSupport
import Testing

@testable import GrenacheTLS

@Suite("Writing small files")
struct FileWriterTests {
  @Test("each writer has a draft of its own: what another one is about to write is not touched")
  func drafts() throws {
    let folder = try TemporaryFolder()
    let path = "\(folder.path)/key"
    // As left by one that is at work, whatever it calls its draft.
    let draft = "\(path).new"
    try "another's".write(toFile: draft, atomically: true, encoding: .utf8)
    for (text, isReplacing) in [("first", false), ("second", true)] {
      try FileWriter.write(text, to: path, mode: 0o600, replacing: isReplacing)
      #expect(try String(contentsOfFile: path, encoding: .utf8) == text)
    }
    #expect(throws: CertificateAuthority.Failure.self) {
      try FileWriter.write("third", to: path, mode: 0o600, replacing: false)
    }
    #expect(try String(contentsOfFile: path, encoding: .utf8) == "second")
    #expect(try String(contentsOfFile: draft, encoding: .utf8) == "another's")
    let left = try FileManager.default.contentsOfDirectory(atPath: folder.path)
    #expect(Set(left) == ["key", "key.new"])
  }

  @Test("a file that cannot be made, and one that is there, are said in words")
  func failures() throws {
    let folder = try TemporaryFolder()
    for (path, reason) in [
      ("/dev/null/x", "/dev/null/x cannot be written: Not a directory"),
      (folder.path, "\(folder.path) exists already"),
    ] {
      let error = #expect(throws: CertificateAuthority.Failure.self) {
        try FileWriter.write("text", to: path, mode: 0o600, replacing: false)
      }
      #expect(error?.description == reason && error?.isOfFile == true)
    }
    try FileWriter.remove("\(folder.path)/nothing")
    let error = #expect(throws: CertificateAuthority.Failure.self) {
      try FileWriter.remove("/dev/null/x")
    }
    #expect(error?.description == "/dev/null/x cannot be removed: Not a directory")
  }
}
