import Foundation
public import GrenacheTLS

/// The certificates of `certs/generate.sh`, made at first use.
public enum GeneratedCertificates {
  /// The root of the package.
  public static let packageRoot = URL(filePath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().deletingLastPathComponent().path

  /// The folder of an identity, fit for `--tls-dir`.
  public static func directory(_ name: String) throws -> String {
    "\(try folder.get())/\(name)"
  }

  /// The configuration of an identity.
  public static func configuration(_ name: String) throws -> TLSConfiguration {
    .directory(try directory(name))
  }

  private static let folder = Result { () throws -> String in
    let process = Process()
    process.executableURL = URL(filePath: "/bin/sh")
    process.arguments = ["\(packageRoot)/certs/generate.sh", "--if-missing"]
    try process.run()
    process.waitUntilExit()
    guard process.terminationStatus == 0 else { throw CocoaError(.executableLoad) }
    return "\(packageRoot)/certs/generated"
  }
}
