internal import ArgumentParser
internal import Foundation
internal import Glibc
internal import GrenacheAccess
internal import GrenacheTLS

/// What a command ends with, after sysexits(3).
public enum CommandExit: Int32, Sendable {
  /// The options do not fit.
  case usage = 64
  /// What was read from standard input cannot be used.
  case data = 65
  /// What was asked for is not there: no worker, no grape.
  case unavailable = 69
  /// The other side answered with an error, or this side failed.
  case software = 70
  /// A file cannot be made, or is there already.
  case cannotCreate = 73
  /// A deadline passed; it may work later.
  case temporary = 75
  /// The other side is not trusted, or this side is not.
  case notPermitted = 77
  /// The certificates or the configuration cannot be used.
  case configuration = 78
}

/// A command that cannot go on, and why, in words for a person.
public struct CommandFailure: Error, CustomStringConvertible {
  /// What the process ends with.
  public var exit: CommandExit
  /// One or more lines for standard error.
  public var description: String

  /// Makes a failure from its parts.
  public init(_ exit: CommandExit, _ description: String) {
    self.exit = exit
    self.description = description
  }
}

/// Runs a command's body; prints an error on standard error and ends the process with its code.
public func runCommand(
  mapping: (any Error) -> CommandExit = { _ in .software }, _ body: () async throws -> Void
) async throws {
  // A reader that goes away is an error of the write, not the end of the process.
  _ = signal(SIGPIPE, SIG_IGN)
  do {
    try await body()
  } catch let exit as ExitCode {
    throw exit
  } catch let failure as CommandFailure {
    printError("error: \(failure)")
    throw ExitCode(failure.exit.rawValue)
  } catch let error as TLSConfigurationError {
    printError("error: \(error)")
    throw ExitCode(CommandExit.configuration.rawValue)
  } catch let error as AccessPolicyError {
    printError("error: \(error)")
    throw ExitCode(CommandExit.configuration.rawValue)
  } catch let error as InputLines.Failure {
    printError("error: \(error)")
    throw ExitCode(CommandExit.data.rawValue)
  } catch {
    // It may hold what the other side has said.
    printError("error: \("\(error)".quotedForLog(bytesMax: 2_000))")
    throw ExitCode(mapping(error).rawValue)
  }
}

/// Prints a line on standard error.
public func printError(_ text: String) {
  _ = write(Array((text + "\n").utf8), to: STDERR_FILENO)
}

/// Prints a line on standard output, at once. Where nobody reads it any more the process ends: quietly, as
/// others do whose reader has seen enough.
public func printLine(_ text: String) {
  printBytes(Array((text + "\n").utf8))
}

/// The same for bytes as they are.
public func printBytes(_ bytes: [UInt8]) {
  let error = write(bytes, to: STDOUT_FILENO)
  guard error != 0 else { return }
  if error == EPIPE { exit(0) }
  printError("error: standard output cannot be written (error \(error))")
  exit(CommandExit.software.rawValue)
}

/// - Returns: the number of the error that was in the way, 0 for none.
private func write(_ whole: [UInt8], to descriptor: Int32) -> Int32 {
  var bytes = whole[...]
  while !bytes.isEmpty {
    let count = unsafe bytes.withUnsafeBytes { bytes in
      unsafe Glibc.write(descriptor, bytes.baseAddress, bytes.count)
    }
    if count >= 0 {
      bytes = bytes.dropFirst(count)
    } else if errno != EINTR {
      return errno
    }
  }
  return 0
}
