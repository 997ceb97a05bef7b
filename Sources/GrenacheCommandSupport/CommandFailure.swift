internal import ArgumentParser
internal import Glibc
internal import GrenacheAccess
internal import GrenacheIO
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
  // A reader that goes away is an error of the write, not the end of the process. Nor is it of the programs
  // that this one starts: to be ignored is inherited, to be handled is not.
  _ = signal(SIGPIPE) { _ in }
  DescriptorLimit.raise()
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
  } catch let error as CertificateAuthority.Failure where error.isOfFile {
    printError("error: \(error)")
    throw ExitCode(CommandExit.cannotCreate.rawValue)
  } catch let error as InputLines.Failure {
    printError("error: \(error)")
    throw ExitCode(CommandExit.data.rawValue)
  } catch let error as BlockingReader.Failure {
    printError("error: standard input: \(error)")
    throw ExitCode(CommandExit.data.rawValue)
  } catch {
    // It may hold what the other side has said.
    printError("error: \("\(error)".quotedForLog(bytesMax: 2_000))")
    throw ExitCode(mapping(error).rawValue)
  }
}
