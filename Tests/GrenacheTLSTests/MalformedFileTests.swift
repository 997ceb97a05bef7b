import Foundation
import TestSupport
import Testing

@testable import GrenacheTLS

@Suite("Every malformed file is named, and the place in it")
struct MalformedFileTests {
  private static let files = [
    "formats/cert.der", "formats/key.der", "formats/bundle.p12", "stapled/status.der",
    "server/cert.pem", "server/key.pem", "ca/crl.pem",
  ]

  private func bytes(_ name: String) throws -> [UInt8] {
    let parts = name.split(separator: "/").map(String.init)
    let path = try GeneratedCertificates.directory(parts[0]) + "/" + parts[1]
    return Array(try Data(contentsOf: URL(filePath: path)))
  }

  /// The faults of a configuration in which `path` holds what `name` has held.
  private func faults(_ name: String, at path: String) throws -> [TLSConfigurationError.Fault] {
    var configuration = try GeneratedCertificates.configuration(
      name.hasPrefix("stapled") ? "stapled" : "server")
    configuration.passphrase = TLSPassphrase { _ in "secret" }
    switch name.split(separator: "/")[1] {
    case "key.der", "key.pem": configuration.key = .file(path)
    case "crl.pem": configuration.revocationLists = .file(path)
    case "status.der": configuration.certificateStatus = .file(path)
    default: configuration.certificate = .file(path)
    }
    do throws(TLSConfigurationError) {
      _ = try TLSContext(configuration)
      return []
    } catch {
      return error.faults
    }
  }

  @Test("cut off anywhere", arguments: files)
  func cuts(_ name: String) throws {
    let folder = try TemporaryFolder()
    let path = "\(folder.path)/file"
    let whole = try bytes(name)
    let isPEM = name.hasSuffix("pem")
    // The end of the last line of PEM may be missing.
    for count in stride(from: 0, to: whole.count - 1, by: max(1, whole.count / 80)) {
      try Data(whole[..<count]).write(to: URL(filePath: path))
      let faults = try faults(name, at: path)
      let fault = try #require(faults.first { $0.source == path }, "\(count) bytes")
      // What ends before its kind can be told names the file alone.
      let isPlaced = fault.reason.contains(isPEM ? "line " : "at byte 0 ")
      #expect(isPlaced || count < 12, "\(count): \(fault)")
      #expect(!fault.remedy.isEmpty)
    }
  }

  @Test(
    "changed anywhere: what is refused is named with a byte, a field or a line", arguments: files)
  func changes(_ name: String) throws {
    let folder = try TemporaryFolder()
    let path = "\(folder.path)/file"
    let whole = try bytes(name)
    var generator = SeededGenerator(seed: 7)
    var refused = 0
    for _ in 0..<80 {
      var changed = whole
      let index = Int.random(in: 1..<whole.count, using: &generator)
      changed[index] ^= UInt8.random(in: 1...255, using: &generator)
      try Data(changed).write(to: URL(filePath: path))
      // What is whole and well-formed may be wrong in what it says: that is judged as such.
      for fault in try faults(name, at: path) where fault.source == path {
        refused += 1
        guard fault.reason.hasPrefix("cannot be read") || fault.reason.contains("PEM") else {
          continue
        }
        // The code of a PKCS#12 file covers it as a whole.
        let places = ["at byte ", "Type=", "line ", "first element", "pkcs12 mac"]
        #expect(places.contains { fault.reason.contains($0) }, "\(index): \(fault)")
      }
    }
    #expect(refused > 15)
  }

  @Test(
    "RFC 7468 §2 PEM is checked line by line",
    arguments: [
      ("-----BEGIN X-----\nAAAA\n", "line 1 begins a block that does not end"),
      ("text\n-----BEGIN X----\n", "line 2 begins a block and does not end with \"-----\""),
      ("-----BEGIN X-----\nAA=A\n-----END Y-----\n", "line 3 does not end the block of line 1"),
      ("-----BEGIN X-----\nA\u{e9}\n-----END X-----\n", "line 2 is not base64"),
      ("-----BEGIN X-----\n-----BEGIN X-----\n", "line 2 does not end the block of line 1"),
      ("----BEGIN X-----\nAAAA\n-----END X-----\n", "line 3 ends a block that has not begun"),
      ("-----BEGIN -----\n", "line 1 begins a block and does not end"),
    ])
  func lines(_ text: String, _ reason: String) {
    #expect(PEMFault(in: Array(text.utf8))?.description.hasPrefix(reason) == true, "\(text)")
  }

  @Test(
    "RFC 7468 §2 text between blocks, headers, blank lines and other ends of lines are allowed",
    arguments: [
      "", "hello", "-----BEGIN X-----\nAAAA\n-----END X-----",
      "Subject: a\n-----BEGIN X-----\r\nAAAA\r\n\r\n-----END X-----\r\nmore\n---- text\n",
      "-----BEGIN X-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n 11\n\nAAAA\n-----END X-----\n",
    ])
  func blocks(_ text: String) {
    #expect(PEMFault(in: Array(text.utf8)) == nil)
  }

  @Test(
    "X.690 §8.1 the first element that does not fit is named",
    arguments: [
      ([], 0, "there is nothing"),
      ([0x30], 0, "cut off in its head"),
      ([0x30, 0x03, 0x02, 0x01], 0, "an element of 3 bytes begins, where 2 are left"),
      ([0x30, 0x03, 0x02, 0x02, 0x01], 2, "an element of 2 bytes begins, where 1 are left"),
      ([0x30, 0x02, 0x02, 0x00, 0x30], 4, "cut off in its head"),
      ([0x02, 0x80, 0x00, 0x00], 0, "indefinite length"),
      ([0x30, 0x80, 0x02, 0x00], 4, "is missing"),
      ([0x30, 0x89, 1, 1, 1, 1, 1, 1, 1, 1, 1], 0, "a length that nothing has"),
      ([0x1f, 0x81], 0, "cut off in its head"),
      ([UInt8](repeating: 0x30, count: 1) + [0x84, 0xff, 0xff, 0xff, 0xff], 0, "4294967295 bytes"),
    ] as [([UInt8], Int, String)])
  func elements(_ bytes: [UInt8], _ offset: Int, _ reason: String) {
    let fault = DERFault(in: bytes)
    #expect(fault?.offset == offset)
    #expect(fault?.reason.contains(reason) == true, "\(fault as Any)")
  }

  @Test(
    "elements may be nested as deeply as the limit says and no deeper; the indefinite form counts")
  func depth() {
    for count in [DERFault.depthMax, DERFault.depthMax + 1] {
      let nested =
        [UInt8](repeating: 0, count: count).flatMap { _ in [0x30, 0x80] as [UInt8] }
        + [UInt8](repeating: 0, count: 2 * count)
      let fault = DERFault(in: nested)
      #expect((fault == nil) == (count == DERFault.depthMax), "\(fault as Any)")
    }
  }
}
