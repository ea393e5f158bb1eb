# SPDX-License-Identifier: MIT
# Run by cpack between staging and packing: what a Debian package has and an installation
# does not. Manuals and changelog are compressed, programs and archives are stripped, and there is a
# copyright file, which names whatever the program was linked with.

# Whose code is in a static program, as Debian calls it. Each brings its notice.
set(linked libuv1-dev libsodium-dev libhiredis-dev libcli11-dev libfmt-dev libspdlog-dev nlohmann-json3-dev libc6-dev libstdc++6)

function(run)
  execute_process(COMMAND ${ARGN} COMMAND_ERROR_IS_FATAL ANY)
endfunction()

function(write_copyright file component)
  file(READ ${CPACK_COALESCE_SOURCE_DIRECTORY}/copyright text)
  if(component STREQUAL tool AND CPACK_COALESCE_STATIC)
    string(APPEND text "\nThe program is linked statically with the following, whose notices are those of\ntheir packages.\n")
    foreach(package IN LISTS linked)
      if(EXISTS /usr/share/doc/${package}/copyright)
        file(READ /usr/share/doc/${package}/copyright notice)
        string(APPEND text "\n\n======== ${package}\n\n${notice}")
      endif()
    endforeach()
  endif()
  file(WRITE ${file} "${text}")
endfunction()

foreach(component IN LISTS CPACK_COMPONENTS_ALL)
  string(TOUPPER ${component} COMPONENT)
  set(package ${CPACK_DEBIAN_${COMPONENT}_PACKAGE_NAME})
  set(usr ${CPACK_TEMPORARY_INSTALL_DIRECTORY}/${component}${CPACK_PACKAGING_INSTALL_PREFIX})
  if(NOT IS_DIRECTORY ${usr})
    message(FATAL_ERROR "nothing was staged in ${usr}")
  endif()

  file(GLOB_RECURSE manuals ${usr}/share/man/*.[1-9])
  foreach(manual IN LISTS manuals)
    run(gzip -9n ${manual})
  endforeach()
  file(GLOB programs ${usr}/bin/*)
  foreach(program IN LISTS programs)
    run(strip --remove-section=.comment --remove-section=.note ${program})
  endforeach()
  file(GLOB_RECURSE archives ${usr}/lib/*.a)
  foreach(archive IN LISTS archives)
    run(strip --strip-debug --remove-section=.comment --remove-section=.note --enable-deterministic-archives ${archive})
  endforeach()

  set(doc ${usr}/share/doc/${package})
  file(MAKE_DIRECTORY ${doc})
  write_copyright(${doc}/copyright ${component})
  configure_file(${CPACK_COALESCE_SOURCE_DIRECTORY}/changelog ${doc}/changelog @ONLY)
  run(gzip -9n ${doc}/changelog)
  run(chmod 0644 ${doc}/copyright ${doc}/changelog.gz)

  if(component STREQUAL tool AND CPACK_COALESCE_STATIC)
    file(MAKE_DIRECTORY ${usr}/share/lintian/overrides)
    configure_file(${CPACK_COALESCE_SOURCE_DIRECTORY}/static.lintian-overrides ${usr}/share/lintian/overrides/${package} COPYONLY)
  endif()
  run(chmod -R u=rwX,go=rX ${usr})
endforeach()
